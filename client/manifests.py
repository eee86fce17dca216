"""What a node checks of a sum's manifest: everything in it follows from what the node knows itself, or is signed by all members."""

from __future__ import annotations

from client.node import Node, Request, Session
from protocols import participation
from protocols.encoding import LaneLayout
from protocols.epoch import EpochManifest
from protocols.errors import Refusal
from protocols.secagg import SumManifest


def check_subject(request: Request, manifest: SumManifest) -> None:
    """Raises Refusal unless the manifest is about the sum that the signed envelope names, and the very one that it names."""
    if (manifest.run, manifest.round, manifest.sum) != (request.run, request.round, request.about):
        raise Refusal("the manifest is about another sum than its envelope")
    if manifest.hash != request.manifest_hash:
        raise Refusal("the manifest is not the one that its envelope names; both sides must run the same version")


def check_members(node: Node, session: Session, manifest: SumManifest, epoch: EpochManifest) -> None:
    """Raises ParticipationError if the sum's epoch has a member outside the round's batch.

    Batches are dealt by name, so with them all rosters must hold the same names: a node whose roster differs refuses.
    """
    names = {*node.roster.names, *epoch.members}  # with those who left since a sum that is still to be followed
    participation.check_members(session.plan, names, manifest.round, manifest.sum, epoch.members)


def check_manifest(session: Session, manifest: SumManifest, lanes: LaneLayout) -> None:
    """Raises Refusal unless the manifest starts from this node's plan, state, lanes and last transcript."""
    if manifest.plan_hash.hex() != session.plan.sha256:
        raise Refusal("the manifest is for another plan than the one that was accepted")
    if manifest.state_hash != session.state_hash:
        raise Refusal("this institution computes another state hash than the manifest's; send it the transcripts that it has missed")
    if manifest.layout_hash != lanes.hash or manifest.lanes != lanes.format:
        raise Refusal("the manifest's lanes are not those that follow from plan and state; both sides must run the same version")
    if manifest.previous_transcript != session.transcript:
        raise Refusal("the manifest does not follow the last transcript that this institution has seen")
