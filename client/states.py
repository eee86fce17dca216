"""How a node follows the run: greeting, transcripts that it applies itself, and catching up after an absence."""

from __future__ import annotations

import hashlib

import numpy as np

from client.ledger import FinishedSum
from client.node import Node, Request, Result, accept_plan, find_sum, open_session
from protocols.encoding import decode
from protocols.errors import Refusal
from protocols.state import State, save_state, state_from_arrays, state_hash


def hello(node: Node, request: Request) -> Result:
    """Accepts the plan or refuses it, and says which state this node is at."""
    accept_plan(node, request.run, request.part("plan"))
    session = open_session(node, request.run)
    return Result({"state": session.state_hash, "transcript": session.transcript})


def follow_transcript(node: Node, request: Request) -> Result:
    """Applies a total by itself and keeps the outcome only if it is the announced one; then erases what the sum no longer needs."""
    session, announced = open_session(node, request.run), request.part("after")
    transcript = request.part("transcript")
    if session.transcript == transcript and session.state_hash == announced:
        return Result({"state": announced})
    if session.state_hash != request.part("before"):
        raise Refusal(f"{node.name} is at another state than this transcript starts from; send it the current state")
    planned, survivors = find_sum(session, request), request.part("survivors").decode().split("\n")
    total = request.arrays.get("total")
    if total is None or total.dtype != np.uint32 or hashlib.sha256(total.tobytes()).digest() != request.part("total"):
        raise Refusal("the total is not the one that the transcript names")
    values = decode(total, session.terms.lanes(session.state, planned), len(node.roster.entries))
    after, _ = session.terms.apply(session.state, planned, values)
    if state_hash(after) != announced:
        raise Refusal(f"the total of round {request.round} does not lead to the announced state; the coordinator must show its transcript")
    _keep(node, request, after, transcript)
    node.ledger.finish_sum(FinishedSum(request.run, request.round, request.about, transcript, announced, len(survivors), ""))
    return Result({"state": announced})


def adopt_state(node: Node, request: Request) -> Result:
    """Takes the published state after an absence; a false one only keeps this node's masks from cancelling with the others'."""
    session = open_session(node, request.run)
    state = state_from_arrays(request.part("header"), request.arrays)
    if state_hash(state) != request.part("state"):
        raise Refusal("the state that was sent is not the one that was announced")
    if state.base_sha256 != session.plan.base.sha256 or state.round < session.state.round:
        raise Refusal("the state that was sent is of another base, or older than this node's own")
    shapes = {tensor.name: tensor.shape for tensor in session.terms.adaptation.layout(state.experts)}
    if shapes != {name: values.shape for name, values in state.tensors.items()} or not shapes.keys() >= state.momentum.keys():
        raise Refusal("the state that was sent does not have the tensors of plan and base")
    _keep(node, request, state, request.part("transcript"))
    node.ledger.drop_vectors(request.run)
    return Result({"state": state_hash(state)})


def _keep(node: Node, request: Request, state: State, transcript: bytes) -> None:
    """File first, row second, and the former file last: a crash leaves at most a file too many."""
    former, digest = node.ledger.current_state(request.run), state_hash(state)
    save_state(state, node.ledger.state_path(request.run, digest))
    node.ledger.keep_state(request.run, digest, transcript)
    if former is not None and former[0] != digest:
        node.ledger.state_path(request.run, former[0]).unlink(missing_ok=True)
