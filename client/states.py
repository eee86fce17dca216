"""How a node follows the run: greeting, transcripts that it applies itself, and states that enough others have come to."""

from __future__ import annotations

import numpy as np

from client.audits import challenge, check_spots
from client.epochs import erase_used
from client.ledger import FinishedSum, Position
from client.manifests import check_manifest
from client.node import Node, Request, Result, Session, accept_plan, next_sum, open_session
from client.promises import promise_transcript
from client.transcripts import checked_transcript
from protocols.encoding import decode
from protocols.errors import Refusal
from protocols.pack import unpack
from protocols.parts import check_update_set
from protocols.policy import check_update
from protocols.schedule import PlannedSum, keeps_training, planned_sums
from protocols.secagg import read_total, total_root
from protocols.state import State, save_state, state_from_arrays, state_hash
from protocols.transcript import Transcript, confirmation, survivors_of, verify_confirmations


def hello(node: Node, request: Request) -> Result:
    """Accepts the plan or refuses it, and says which state this node is at and how many events it was shown."""
    accept_plan(node, request.run, request.part("plan"))
    session = open_session(node, request.run)
    return Result({"state": session.state_hash, "transcript": session.transcript, "chain": b"%d" % node.ledger.heads.last.length})


def commit_to(node: Node, request: Request) -> Result:
    """Takes note of the next sum's transcript, which binds the coordinator, and answers with the chunks that it must then show."""
    session = open_session(node, request.run)
    transcript = checked_transcript(node, session, request)
    if session.transcript == transcript.hash:
        return Result({"challenge": b""})
    check_manifest(session, transcript.manifest, session.terms.lanes(session.state, next_sum(session, request)))
    promise_transcript(node, request, transcript)
    return Result({"challenge": challenge(node, request, transcript)})


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
    return Result(confirmation(transcript))


def adopt_state(node: Node, request: Request) -> Result:
    """Takes the state of a later sum after an absence, if threshold many members of that sum's epoch signed that they came to it."""
    session = open_session(node, request.run)
    transcript = checked_transcript(node, session, request)
    sums: list[tuple[int, str]] = [(planned.round, planned.kind) for planned in planned_sums(session.plan)]
    if (request.round, request.about) not in sums[session.finished :]:
        raise Refusal(f"{node.name} keeps the state that it is at, which is not before the {request.about} sum of round {request.round}")
    verify_confirmations(transcript, unpack(request.part("confirmations")), node.roster)
    state = state_from_arrays(request.part("header"), request.arrays)
    if state_hash(state) != transcript.after:
        raise Refusal("the state that was sent is not the one that was confirmed")
    _check_shapes(session, state)
    if transcript.manifest.sum == "update":
        check_update_set(state.pre_round, survivors_of(transcript.epoch, transcript.certificate))
    _keep(node, session, transcript, state, 1 + sums.index((request.round, request.about)))
    return Result(confirmation(transcript))


def _applied(node: Node, session: Session, planned: PlannedSum, transcript: Transcript, request: Request) -> State:
    lanes, format_ = session.terms.lanes(session.state, planned), transcript.manifest.lanes
    written = request.arrays.get("total", np.empty(0, np.uint8))
    if written.dtype != np.uint8 or total_root(format_, written.data) != transcript.total:
        raise Refusal("the total is not the one that the transcript names")
    total, survivors = read_total(format_, written.data), survivors_of(transcript.epoch, transcript.certificate)
    after, _ = session.terms.apply(session.state, planned, decode(total, lanes, len(node.roster.entries)), survivors)
    if planned.kind == "update":
        check_update(node.policy, session.state, after)
    after = session.terms.adopt(after, planned, {name: values for name, values in request.arrays.items() if name != "total"})
    if planned.kind == "update-2":  # whose step is what was proposed
        check_update(node.policy, session.state, after)
    if state_hash(after) != transcript.after:
        raise Refusal(f"the total of round {planned.round} does not lead to the announced state; the coordinator must show its transcript")
    return after


def _check_shapes(session: Session, state: State) -> None:
    shapes = {tensor.name: tensor.shape for tensor in session.terms.adaptation.layout(state.experts)}
    sent, momentum = ({name: values.shape for name, values in group.items()} for group in (state.tensors, state.momentum))
    if state.base_sha256 != session.plan.base.sha256 or sent != shapes or not momentum.items() <= shapes.items():
        raise Refusal("the state that was sent does not have the tensors of plan and base")


def _keep(node: Node, session: Session, transcript: Transcript, state: State, finished: int) -> None:
    """File first, rows second, and the former file last: a crash leaves at most a file too many.

    In the transaction that moves the run on, everything secret of sums that are over is erased.
    """
    ledger, manifest = node.ledger, transcript.manifest
    former, digest = ledger.position(manifest.run), state_hash(state)
    save_state(state, ledger.state_path(manifest.run, digest))
    institutions = len(transcript.certificate.proposal.members)
    with ledger.transaction():
        ledger.keep_position(manifest.run, Position(digest, transcript.hash, finished))
        done = FinishedSum(manifest.run, manifest.round, manifest.sum, transcript.hash, digest, institutions, "")
        ledger.finish_sum(done, keeps_training(session.plan, manifest.sum))
        ledger.keep_transcript(transcript.hash, transcript.to_bytes())
        erase_used(node, transcript, over=finished == len(planned_sums(session.plan)))
    if former is not None and former.state_hash != digest:
        ledger.state_path(manifest.run, former.state_hash).unlink(missing_ok=True)
