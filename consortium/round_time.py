"""How long one institution trains in a round: measured on this machine, by a few steps of the real network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.alone import own_affinities, state_with
from client.dataset import Dataset, Example
from client.order import generator
from client.settings import HardwareSettings
from client.workbench import Base, Workbench, load_base
from consortium.preparation import prepare
from protocols.aggregation import rule_of
from protocols.plan import Evaluation, Plan
from protocols.selection import unevenness
from protocols.state import State

LARGEST_BASE = 500_000_000  # bytes; a larger one is not read within seconds
MOST_STEPS = 5
MOST_TOKENS = 4096  # in a measured step; of a larger batch a part is measured
BUDGET_SECONDS = 1.0
LEARNT_SHARE = 8  # of a random record every eighth token, at its end, is learnt


@dataclass(frozen=True, slots=True)
class RoundTime:
    """Seconds of one institution's training in a round, what records they were measured on, and how unevenly these use experts."""

    seconds: float
    records: str
    unevenness: float | None  # None where the plan chooses no experts, or the records are random


def measure_round(plan: Plan, base: Path, home: Path, clock: Callable[[], float]) -> RoundTime | None:
    """Takes a few steps on the plan's own records, or on random ones where [simulation] names no file; None for a large base.

    Raises:
        ConsortiumError, ModelError: records or base cannot be used.
    """
    if sum(file.stat().st_size for file in base.glob("*.safetensors")) > LARGEST_BASE:
        return None
    loaded = load_base(base, HardwareSettings())
    source = home / plan.simulation.source if plan.simulation else None
    own = source is not None and source.is_file()
    if own:
        plan, data = _own(plan, home)
        records = "the plan's own records"
    else:
        plan, data = _random(plan, loaded)
        records = "random records of max_tokens"
    whole = plan.training.batch_size
    part = min(whole, max(1, MOST_TOKENS // max(len(example.tokens) for example in data.examples)))
    measured = plan.model_copy(update={"training": plan.training.model_copy(update={"batch_size": part})})
    bench = Workbench(measured, loaded, data, Dataset((), 0, 0))
    affinities = own_affinities(bench, bench.plan)
    step = _seconds_per_step(bench, state_with(bench, bench.plan, affinities), clock)
    uneven = unevenness(affinities) if own and affinities is not None else None
    return RoundTime(step * whole / part * plan.training.local_steps, records, uneven)


def _own(plan: Plan, home: Path) -> tuple[Plan, Dataset]:
    """The training records of the institution that has most; all institutions' are checked on the way."""
    prepared = prepare(plan, home)
    return prepared.plan, next(iter(prepared.datasets.values())).train


def _random(plan: Plan, loaded: Base) -> tuple[Plan, Dataset]:
    """Token sequences as long as the plan allows; they have no choices, so nothing is corrected by them."""
    length, words = plan.records.max_tokens, loaded.net.config.vocab_size
    tokens = generator(plan.seed, "random records").integers(words, size=(plan.training.batch_size, length), dtype=np.int32)
    learnt = np.arange(length) >= length - max(1, length // LEARNT_SHARE)
    examples = tuple(Example(row, learnt, length - int(learnt.sum()), "", 0) for row in tokens)
    training = plan.training.model_copy(update={"label_prior": "none"})
    open_ended = plan.model_copy(update={"training": training, "evaluation": Evaluation(metric="bits_per_byte")})
    return open_ended, Dataset(examples, 0, 0)


def _seconds_per_step(bench: Workbench, state: State, clock: Callable[[], float]) -> float:
    trained = [tensor.name for tensor in rule_of(bench.plan).trained(1, bench.adaptation.layout(state.experts))]

    def seconds(steps: int) -> float:
        start = clock()
        bench.train(1, state.tensors, trained, state.experts, steps=steps)
        return clock() - start

    first = seconds(1)  # also warms up
    if first >= BUDGET_SECONDS:
        return first
    steps = min(MOST_STEPS, max(1, int(BUDGET_SECONDS / first)))
    return seconds(steps) / steps
