"""When a node believes a published transcript: a certified epoch agreed on its set, and it contradicts nothing that the node did itself."""

from __future__ import annotations

from client.epochs import check_cohort
from client.manifests import check_members, check_subject
from client.node import Node, Request, Session
from client.promises import is_promised_set, own_root
from protocols.epoch import EpochManifest, EpochState
from protocols.errors import Refusal
from protocols.transcript import Transcript, verify_transcript


def checked_transcript(node: Node, session: Session, request: Request) -> Transcript:
    """The request's transcript of a sum of this run; whether it is the node's next one is for the caller to say.

    Raises:
        Refusal, PolicyError, ProtocolError: it does not hold.
    """
    transcript = Transcript.from_bytes(request.part("transcript"))
    check_subject(request, transcript.manifest)
    if transcript.manifest.plan_hash.hex() != session.plan.sha256:
        raise Refusal("the transcript is for another plan than the one that was accepted")
    roster = node.parties.roster_of(transcript.epoch)
    verify_transcript(transcript, roster, node.coordinator_key)
    check_cohort(node, transcript.epoch)
    check_departed(node, transcript.epoch)
    check_members(node, session, transcript.manifest, transcript.epoch)
    if node.ledger.epoch(request.run, transcript.epoch.epoch) is None:  # the others were looked at when they began
        roster.check_valid(transcript.epoch.members, node.ledger.today())
    _check_own_part(node, transcript)
    return transcript


def check_departed(node: Node, epoch: EpochManifest) -> None:
    """Raises Refusal if more members of an epoch were taken off the roster since than may collude.

    A key on nobody's roster still proves what it signed, also what it signs today: institutions that were sent away could make up an epoch.
    """
    gone = [name for name in epoch.members if name not in node.roster.names]
    if len(gone) > epoch.colluding:
        raise Refusal(
            f"{', '.join(gone)} are on the roster of {node.name} no more, too many to believe the transcript of an epoch that they were "
            "members of; this institution goes on from a later sum"
        )


def _check_own_part(node: Node, transcript: Transcript) -> None:
    manifest, proposal, epoch = transcript.manifest, transcript.certificate.proposal, transcript.epoch
    if not is_promised_set(node, manifest, proposal):
        raise Refusal(f"the transcript is of another set than {node.name} signed for this sum")
    root = own_root(node, manifest)
    is_lost = root is None and node.ledger.has_forgotten(manifest.run, epoch.epoch)
    if node.name in proposal.roots and proposal.roots[node.name] != root and not is_lost:
        raise Refusal(f"the transcript's set holds something as the input of {node.name} that it did not send")
    stored = node.ledger.epoch(manifest.run, epoch.epoch)
    if stored is not None and stored.stage == "confirmed" and EpochState.from_bytes(stored.state).setup_hash != transcript.setup.setup_hash:
        raise Refusal(f"the transcript is of another setup of epoch {epoch.epoch} than {node.name} signed")
