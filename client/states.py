"""How a node follows the run: greeting, transcripts that it applies itself, and states that enough others have come to."""

from __future__ import annotations

import numpy as np

from client.accepting import accept_plan
from client.audits import challenge, check_spots
from client.epochs import erase_used
from client.ledger_rows import FinishedSum, Position
from client.manifests import check_manifest
from client.node import Node, Request, Result, Session, next_sum, open_session
from client.personal import PersonalFiles
from client.privacy_ledger import BEFORE_ROUNDS, SPENT
from client.promises import promise_transcript
from client.totals import PartialTotal
from client.transcripts import checked_transcript
from model.errors import ModelError
from protocols.encoding import decode
from protocols.epoch import EpochManifest
from protocols.errors import Refusal
from protocols.pack import unpack
from protocols.participation import institutions_of
from protocols.parts import check_update_set
from protocols.policy import check_update
from protocols.schedule import BOUND_SUMS, PlannedSum, is_continued, keeps_training, planned_sums
from protocols.scratch import Scratch
from protocols.secagg import read_total, total_root
from protocols.state import GROUPS, State, save_state, state_from_arrays, state_hash
from protocols.transcript import Transcript, confirmation, survivors_of, verify_confirmations


def hello(node: Node, request: Request) -> Result:
    """Accepts the plan in writing or refuses it, and says which state this node is at and how many events it was shown."""
    accept_plan(node, request.run, request.part("plan"))
    session = open_session(node, request.run)
    place = {"state": session.state_hash, "transcript": session.transcript, "chain": b"%d" % node.ledger.heads.last.length}
    return Result(place | {"acceptance": node.ledger.accepted.acceptance(request.run) or b""})


def commit_to(node: Node, request: Request) -> Result:
    """Takes note of the next sum's transcript, which binds the coordinator, and answers with the chunks that it must then show."""
    session = open_session(node, request.run)
    transcript = checked_transcript(node, session, request)
    if session.transcript == transcript.hash:
        return Result({"challenge": b""})
    check_manifest(session, transcript.manifest, session.terms.lanes(session.state, next_sum(session, request)))
    promise_transcript(node, request, transcript)
    return Result({"challenge": challenge(node, request, transcript)})


def take_part(node: Node, request: Request) -> Result:
    """Keeps a part of a large total, once the coordinator is bound to its transcript; the message with the last part follows it."""
    transcript = checked_transcript(node, open_session(node, request.run), request)
    if node.ledger.challenge(transcript.hash) is None:
        raise Refusal("a total comes after its transcript: send that first and show what this institution then asks for")
    part = int.from_bytes(request.part("part"), "little")
    _partial(node, transcript).keep(part, request.arrays.get("total", np.empty(0, np.uint8)))
    return Result({})


def follow_total(node: Node, request: Request) -> Result:
    """Checks what it drew, applies total and proposal by itself, and keeps the outcome only if it is the announced one."""
    session = open_session(node, request.run)
    transcript = checked_transcript(node, session, request)
    if session.transcript != transcript.hash:
        planned = next_sum(session, request)
        check_manifest(session, transcript.manifest, session.terms.lanes(session.state, planned))
        check_spots(node, request, transcript)
        after = _applied(node, session, planned, transcript, request)
        _keep(node, session, transcript, after, session.finished + 1)
        _partial(node, transcript).remove()
    return Result(confirmation(transcript))


def adopt_state(node: Node, request: Request) -> Result:
    """Takes the state of a later sum after an absence, if threshold many members of that sum's epoch signed that they came to it."""
    session = open_session(node, request.run)
    transcript = checked_transcript(node, session, request)
    sums: list[tuple[int, str]] = [(planned.round, planned.kind) for planned in planned_sums(session.plan)]
    if (request.round, request.about) not in sums[session.finished :]:
        raise Refusal(f"{node.name} keeps the state that it is at, which is not before the {request.about} sum of round {request.round}")
    verify_confirmations(transcript, unpack(request.part("confirmations")), node.parties)
    state = state_from_arrays(request.part("header"), request.arrays)
    if state_hash(state) != transcript.after:
        raise Refusal("the state that was sent is not the one that was confirmed")
    number = sums.index((request.round, request.about))
    _check_state(session, planned_sums(session.plan)[number], state)
    if transcript.manifest.sum in BOUND_SUMS:
        check_update_set(state.pre_round, survivors_of(transcript.epoch, transcript.certificate))
    _keep(node, session, transcript, state, 1 + number)
    return Result(confirmation(transcript))


def _partial(node: Node, transcript: Transcript) -> PartialTotal:
    return PartialTotal(node.ledger.home, transcript.manifest.run, transcript.manifest.lanes)


def _applied(node: Node, session: Session, planned: PlannedSum, transcript: Transcript, request: Request) -> State:
    lanes, format_ = session.terms.lanes(session.state, planned), transcript.manifest.lanes
    written = _partial(node, transcript).whole(request.arrays.get("total", np.empty(0, np.uint8)))
    if written.dtype != np.uint8 or total_root(format_, written.data) != transcript.total:
        raise Refusal("the total is not the one that the transcript names")
    total = read_total(format_, written.data, Scratch(node.ledger.home))
    survivors = survivors_of(transcript.epoch, transcript.certificate)
    decoded = decode(total, lanes, transcript.epoch.n)
    after, _ = session.terms.apply(session.state, planned, decoded, survivors, institutions_of(session.plan, transcript.epoch.n))
    if planned.kind == "update":
        check_update(node.policy, session.state, after)
    after = session.terms.adopt(after, planned, {name: values for name, values in request.arrays.items() if name != "total"})
    if planned.kind == "update-2":  # whose step is what was proposed
        check_update(node.policy, session.state, after)
    if state_hash(after) != transcript.after:
        raise Refusal(f"the total of round {planned.round} does not lead to the announced state; the coordinator must show its transcript")
    return after


def _check_state(session: Session, planned: PlannedSum, state: State) -> None:
    """Raises Refusal unless a state that came from elsewhere has the form that plan and base give it after a sum."""
    try:
        layout = session.terms.adaptation.layout(state.experts)
    except ModelError:
        raise Refusal("the state that was sent adapts experts that the base does not have") from None
    shapes = {tensor.name: tensor.shape for tensor in layout}
    sent = {group: {name: values.shape for name, values in state.group(group).items()} for group in GROUPS}
    fits = sent["tensors"] == shapes and all(sent[group].items() <= shapes.items() for group in ("momentum", "second_moments", "controls"))
    fits = fits and sent["basis"] in ({}, session.terms.rule.basis(session.plan, planned, layout))
    if state.base_sha256 != session.plan.base.sha256 or not fits:
        raise Refusal("the state that was sent does not have the tensors of plan and base")
    if not all(np.isfinite(values).all() for group in GROUPS for values in state.group(group).values()):
        raise Refusal("the state that was sent holds a number that is not finite")
    if is_continued(session.plan, planned.kind) and state.pre_round is None:
        raise Refusal(f"the state that was sent does not say who may continue the {planned.kind} sum of round {planned.round}")


def _keep(node: Node, session: Session, transcript: Transcript, state: State, finished: int) -> None:
    """Keeps the transcript's state. File first, rows second, and the former file last: a crash leaves at most a file too many.

    In the transaction that moves the run on, everything secret of sums that are over is erased.
    """
    ledger, manifest = node.ledger, transcript.manifest
    former, digest = ledger.position(manifest.run), transcript.after
    save_state(state, ledger.state_path(manifest.run, digest))
    if manifest.sum == "update":
        PersonalFiles(ledger.home, manifest.run).settle(manifest.round, node.name in transcript.certificate.proposal.members)
    institutions = len(transcript.certificate.proposal.members)
    with ledger.transaction():
        ledger.keep_position(manifest.run, Position(digest, transcript.hash, finished))
        done = FinishedSum(manifest.run, manifest.round, manifest.sum, transcript.hash, digest, institutions, "")
        ledger.finish_sum(done, keeps_training(session.plan, manifest.sum))
        ledger.keep_transcript(transcript.hash, transcript.to_bytes())
        _note_return(node, session, transcript, finished)
        erase_used(node, transcript, over=finished == len(planned_sums(session.plan)))
    if former is not None and former.state_hash != digest:
        ledger.digests.remove(ledger.state_path(manifest.run, former.state_hash))
    node.checkpoints.erase(manifest.run)  # of a round that was over before this institution's training was


def _note_return(node: Node, session: Session, transcript: Transcript, finished: int) -> None:
    """What a restored ledger learns from a finished sum: what its institution may have spent, and when it may take part again."""
    ledger, manifest, epoch = node.ledger, transcript.manifest, transcript.epoch
    if not ledger.returning.is_only_followed(manifest.run):
        return
    over = planned_sums(session.plan)[:finished]
    if session.plan.privacy is not None:
        trained = [BEFORE_ROUNDS, *(one.round for one in over if one.kind == "update")]
        ledger.privacy.charge_lost(manifest.run, session.plan.privacy.unit, trained, SPENT)
    stored = ledger.epoch(manifest.run, epoch.epoch)  # `checked_transcript` compared its setup with the transcript's
    took_part = stored is not None and stored.stage == "confirmed" and EpochManifest.from_bytes(stored.manifest).hash == epoch.hash
    ledger.returning.note_finished(manifest.run, [one.kind for one in over], took_part)
