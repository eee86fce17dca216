"""A private round at one institution: charged first, trained with randomness of its own, and drawn anew if it died before it was kept.

Nothing here comes from the plan's seed. After a crash, steps that a checkpoint kept are not taken again; every other one is drawn with
other randomness, and shares no noise with those that died, of which nothing left. So no checkpoint holds a secret.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from client.node import Node, Session
from client.privacy_ledger import BEFORE_ROUNDS, PrivateRun
from client.private_runs import check_budget
from client.work import LocalUpdate, PrivateRound
from protocols.aggregation import Tensor
from protocols.errors import PrivacyError, Refusal, UpdateError
from protocols.keys import Purpose
from protocols.policy import check_plan
from protocols.privacy.distributed import Grid, grid_of
from protocols.privacy.noise import gaussian
from protocols.privacy.rounding import round_conditionally
from protocols.privacy.skellam import skellam
from protocols.privacy.stream import CryptographicStream
from protocols.schedule import PlannedSum
from protocols.state import Tensors
from protocols.sums.private_update import dimension_of, is_distributed

SECRET_BYTES = 32


def train_private(node: Node, run: str, session: Session, planned: PlannedSum) -> LocalUpdate:
    """The round's noised deltas, or under the distributed mechanism integers; nothing else of the training is told.

    Raises:
        Refusal: the run was not accepted with its privacy. PolicyError: its budget is used up. UpdateError: it does not fit the plan.
        LedgerError: the round was sent before.
    """
    accepted = node.ledger.privacy.accepted(run)
    if accepted is None:
        raise Refusal(f"run {run} was not accepted by {node.name} with its [privacy]; greet it with the plan again")
    trained = session.terms.trained(session.state, planned)
    _reserve(node, run, session, planned, accepted)
    asked = PrivateRound(
        planned.round, session.state.tensors, tuple(tensor.name for tensor in trained), session.state.experts, accepted.sampling_rate,
        accepted.noise_multiplier, node.randomness(SECRET_BYTES), node.ledger.privacy.label_counts(run),
    )  # fmt: skip
    if is_distributed(session.plan):
        delta = _summed(session, asked, trained)
    else:
        delta = session.work.private.train(asked, node.checkpoints.of_run(run))
    for tensor in trained:
        if tensor.name not in delta or delta[tensor.name].shape != tensor.shape:
            raise UpdateError(f"training returned nothing of shape {tensor.shape} for {tensor.name}; base and plan do not fit this version")
    return LocalUpdate(delta, loss_sum=0.0, examples=0, tokens=0)


def _reserve(node: Node, run: str, session: Session, planned: PlannedSum, accepted: PrivateRun) -> None:
    """Charges the round, and before the first one the counts of labels, which are drawn in the same transaction."""
    ledger, privacy = node.ledger.privacy, session.plan.privacy
    unit = privacy.unit if privacy else ""
    check_plan(node.policy, session.plan)  # which may be another policy than when the run was accepted
    drawn = None
    if accepted.label_noise is not None and ledger.label_counts(run) is None:
        drawn = noised_counts(session.work.private.label_counts(), accepted.label_noise, node.randomness(SECRET_BYTES))
    with node.ledger.transaction():  # nothing of another run is charged between look and charge
        check_budget(node.policy, ledger, run, accepted.whole, node.name)
        if drawn is not None:
            ledger.reserve(run, BEFORE_ROUNDS, unit, accepted.spends[BEFORE_ROUNDS])
            ledger.keep_label_counts(run, drawn)
        ledger.reserve(run, planned.round, unit, accepted.spends[planned.round])


def noised_counts(counts: NDArray[np.float64], noise: float, secret: bytes) -> NDArray[np.float64]:
    """Counts, to which a unit adds 1 in all, with Gaussian noise; float64 [choices], none below 0."""
    stream = CryptographicStream(secret, Purpose.NOISE, b"counts of labels")
    return np.maximum(counts + noise * gaussian(len(counts), stream), 0.0).astype(np.float32).astype(np.float64)


def _summed(session: Session, asked: PrivateRound, trained: tuple[Tensor, ...]) -> Tensors:
    """Integers by tensor; below 2^22, so that float32 holds them exactly."""
    grid = grid_of(session.plan, dimension_of(trained))
    total = noised_sum(session.work.private.clipped_gradients(asked), grid, dimension_of(trained), asked.secret)
    ordered, found, start = sorted(trained, key=lambda tensor: tensor.name), dict[str, NDArray[np.float32]](), 0
    for tensor in ordered:
        size = int(np.prod(tensor.shape))
        found[tensor.name] = total[start : start + size].reshape(tensor.shape).astype(np.float32)
        start += size
    return found


def noised_sum(gradients: Iterable[NDArray[np.float64]], grid: Grid, dimension: int, secret: bytes) -> NDArray[np.int64]:
    """Conditionally rounded units' gradients and one share of Skellam noise, int64 [dimension].

    Raises:
        PrivacyError: more units were drawn than lanes have room for, which happens with probability 2^-64.
    """
    total, rounding = np.zeros(dimension, np.int64), CryptographicStream(secret, Purpose.ROUNDING)
    for number, gradient in enumerate(gradients, start=1):
        if number > grid.most_units:
            raise PrivacyError("a step drew more units than its lanes have room for; ask again, and it is drawn anew")
        total += round_conditionally(gradient * grid.scale, grid.l2, rounding)
    return total + skellam(dimension, grid.share, CryptographicStream(secret, Purpose.NOISE))
