"""A tune-up of a finished model on one institution's own records: short rounds alone, judged on a held-out tenth of them.

The shared model is among those to choose from. It has seen the held-out records in the federation, which the tune-up does not
repeat, so that they speak for less tuning than other records would: the last model is kept unless another is clearly better.
Unlike in the federation, the institution's own label skew is learnt: that is what the tune-up is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from client.dataset import Dataset, Example
from client.errors import RecordError
from client.order import generator
from client.work import MetricSums
from client.workbench import Workbench
from protocols.plan import Plan
from protocols.state import State

SECTIONS = 8  # after each of which there is a model to choose
BLOCKS = 10  # of held-out records, whose differences say how sure a difference is
CLEARLY = 2.0  # standard errors


@dataclass(frozen=True, slots=True)
class Tuned:
    """The model that was chosen, and the plan's metric of it and of the shared one on the held-out records."""

    state: State
    step: int  # after which it stood; 0 where no step made it better
    before: float
    after: float
    steps: int
    held_out: int  # records


@dataclass(frozen=True, slots=True)
class _Candidate:
    state: State
    step: int
    blocks: tuple[MetricSums, ...]

    @property
    def metric(self) -> float:
        return sum(one.numerator for one in self.blocks) / sum(one.denominator for one in self.blocks)


def tune(
    bench: Workbench,
    shared: State,
    own: State,
    steps: int,
    learning_rate: float,
    on_section: Callable[[int, int], None] = lambda *_: None,
) -> Tuned:
    """Trains all of `own` on nine tenths of the bench's training records, and chooses by the last tenth among it, `shared` and what came.

    Args:
        own: where training starts, `shared` or with what the institution has kept to itself in it.
        steps: of the bench's batch size, rounded up to SECTIONS equal parts; the rate falls over them as half a cosine.
        on_section: told after each section, with how many there are.

    Raises:
        RecordError: one training record alone, so that none could be held out.
    """
    rest, held = divided(bench.train_set.examples, bench.plan.seed)
    section = -(-steps // SECTIONS)
    plan = _alone(bench.plan, section, learning_rate)
    trainer = Workbench(plan, bench.base, Dataset(rest, 0, 0), bench.test_set, bench.hardware)
    measured = [_candidate(trainer, held, state, 0) for state in ((shared,) if own is shared else (shared, own))]
    for number, state in enumerate(_sections(trainer, own), 1):
        measured.append(_candidate(trainer, held, state, number * section))
        on_section(number, SECTIONS)
    kept = _chosen(measured, plan.evaluation.higher_is_better)
    return Tuned(kept.state, kept.step, measured[0].metric, kept.metric, section * SECTIONS, len(held))


def divided(examples: Sequence[Example], seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Nine tenths to train on and one to choose by, the same whenever it is asked."""
    if len(examples) < 2:
        raise RecordError("a tune-up needs two training records or more: one to train on and one to choose by; give it more records")
    order = generator(seed, "held out of a tune-up").permutation(len(examples))
    held = max(1, len(examples) // 10)
    rest, chosen = np.sort(order[held:]), np.sort(order[:held])
    return tuple(examples[index] for index in rest), tuple(examples[index] for index in chosen)


def _alone(plan: Plan, section: int, learning_rate: float) -> Plan:
    changes = {"local_steps": section, "learning_rate": learning_rate, "schedule": "cosine", "label_prior": "none", "proximal": 0.0}
    alone = {"training": plan.training.model_copy(update=changes), "participation": plan.participation.model_copy(update={"batches": 1})}
    return plan.model_copy(update={"rounds": SECTIONS, **alone})


def _sections(trainer: Workbench, start: State) -> Iterator[State]:
    state = start
    for number in range(1, SECTIONS + 1):
        update = trainer.train(number, state.tensors, tuple(state.tensors), state.experts)
        state = replace(state, tensors={name: values + update.delta[name] for name, values in state.tensors.items()})
        yield state


def _candidate(trainer: Workbench, held: Sequence[Example], state: State, step: int) -> _Candidate:
    count = min(BLOCKS, len(held))
    return _Candidate(state, step, tuple(trainer.measure(held[first::count], state.tensors, state.experts) for first in range(count)))


def _chosen(measured: Sequence[_Candidate], higher_is_better: bool) -> _Candidate:
    """The last that no other is clearly better than."""
    sign = 1.0 if higher_is_better else -1.0
    best = max(measured, key=lambda one: sign * one.metric)
    return next(one for one in reversed(measured) if not _is_clearly_worse(one, best, sign))


def _is_clearly_worse(one: _Candidate, best: _Candidate, sign: float) -> bool:
    """Whether the mean difference over blocks is more than its standard errors allow; with a single block, any."""
    pairs = zip(one.blocks, best.blocks, strict=True)
    deficits = np.array([sign * (b.numerator / b.denominator - a.numerator / a.denominator) for a, b in pairs])
    error = deficits.std(ddof=1) / np.sqrt(len(deficits)) if len(deficits) > 1 else 0.0
    return bool(deficits.mean() > CLEARLY * error)
