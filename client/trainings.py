"""A round's training, done once: it is kept on the institution's own disk until the last sum that is made of it is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from client.continued import trained_factors
from client.errors import LedgerError
from client.node import Node, Session
from client.personal_training import train_and_keep
from client.private_training import train_private
from client.vectors import TRAINING
from client.work import LocalUpdate
from protocols.errors import Refusal
from protocols.parts import pre_round_of
from protocols.schedule import PlannedSum, has_pre_round, is_continued
from protocols.scratch import Scratch
from protocols.state import inputs_hash
from protocols.tensor_file import tensor_pieces, tensors_in


def train_once(node: Node, run: str, session: Session, planned: PlannedSum) -> LocalUpdate:
    """Trains, or returns what was trained for an earlier sum of the round; the ledger erases that with the last sum made of it.

    Raises:
        Refusal: a sum without having been in the one that it continues, or a round that was trained from another state.
        UpdateError: what was trained does not fit the plan.
    """
    if session.plan.privacy is not None:
        return train_private(node, run, session, planned)
    if not (has_pre_round(session.plan) or is_continued(session.plan, "update")):
        return _train(node, run, session, planned)
    is_second = planned.kind == "update-2"  # whose state is no longer the one that was trained from
    inputs = inputs_hash(session.state)
    stored = node.ledger.vectors.kept(run, planned.round, TRAINING, None if is_second else inputs)
    before = pre_round_of(planned, session.state)
    if (before is not None or is_second) and (stored is None or before is None or node.name not in before.members):
        former = "update" if is_second else "pre-round"
        raise Refusal(f"{node.name} was not in the {former} of round {planned.round} and returns with the next round")
    if stored is not None:
        return update_from_bytes(stored.data)
    update = _train(node, run, session, planned)
    node.ledger.vectors.keep(run, planned.round, TRAINING, inputs, update_to_bytes(update, Scratch(node.ledger.home)))
    node.checkpoints.erase(run)
    return update


def update_to_bytes(update: LocalUpdate, into: Scratch | None = None) -> memoryview:
    """One safetensors file of deltas and factors (float32) and routed tokens (int64), with the sums in its header.

    It is written into `into`, or the process's own memory.
    """
    arrays: dict[str, NDArray[Any]] = {f"delta/{name}": np.ascontiguousarray(values) for name, values in update.delta.items()}
    arrays |= {f"factors/{name}": np.ascontiguousarray(values) for name, values in update.factors.items()}
    arrays |= {f"tokens/{layer}": np.ascontiguousarray(counts, np.int64) for layer, counts in update.expert_tokens.items()}
    header = json.dumps([update.loss_sum, update.examples, update.tokens])
    # The header is an array too: safetensors' reader of bytes does not give its metadata back.
    pieces = list(tensor_pieces(arrays | {"header": np.frombuffer(header.encode(), np.uint8)}, {}))
    content, start = (into or Scratch()).zeros(sum(map(len, pieces)), np.uint8), 0
    for piece in pieces:
        content[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        start += len(piece)
    return content.data


def update_from_bytes(data: bytes | memoryview) -> LocalUpdate:
    """What `update_to_bytes` wrote, as views of it.

    Raises:
        LedgerError: it is something else.
    """
    try:
        _, arrays = tensors_in(memoryview(data))
        loss_sum, examples, tokens = json.loads(arrays["header"].tobytes())
        experts = {int(layer): counts for layer, counts in _group(arrays, "tokens/").items()}
        delta, factors = _group(arrays, "delta/"), _group(arrays, "factors/")
        return LocalUpdate(delta, float(loss_sum), int(examples), int(tokens), experts, factors)
    except (SafetensorError, KeyError, TypeError, ValueError):
        raise LedgerError("the training on disk is not readable; this institution cannot take part in the round again") from None


def _group(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def _train(node: Node, run: str, session: Session, planned: PlannedSum) -> LocalUpdate:
    update = train_and_keep(node, run, session, planned)
    return replace(update, factors=trained_factors(update.delta, session.terms, session.state, planned))
