"""A tune-up of a finished model on one institution's own records: short rounds alone, of which the best on a held-out tenth is kept.

The shared model is among those to choose from. Unlike in the federation, the institution's own label skew is learnt: that is what
the tune-up is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from client.dataset import Dataset, Example
from client.errors import RecordError
from client.order import generator
from client.workbench import Workbench
from protocols.plan import Plan
from protocols.state import State

SECTIONS = 8  # after each of which there is a model to choose


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
    metric: float
    bits: float  # per byte of the targets: decides where the metric does not

    def rank(self, higher_is_better: bool) -> tuple[float, float]:
        return (self.metric if higher_is_better else -self.metric), -self.bits


def tune(
    bench: Workbench,
    shared: State,
    own: State,
    steps: int,
    learning_rate: float,
    on_section: Callable[[int, int], None] = lambda *_: None,
) -> Tuned:
    """Trains all of `own` on nine tenths of the bench's training records, and chooses by the last one among it, `shared` and what came.

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
    trainer = Workbench(plan, bench.base, Dataset(rest, 0, 0), Dataset(held, 0, 0), bench.hardware)
    measured = [_candidate(trainer, shared, 0)]
    measured += [] if own is shared else [_candidate(trainer, own, 0)]
    for number, state in enumerate(_sections(trainer, own), 1):
        measured.append(_candidate(trainer, state, number * section))
        on_section(number, SECTIONS)
    best = max(measured, key=lambda one: one.rank(plan.evaluation.higher_is_better))
    return Tuned(best.state, best.step, measured[0].metric, best.metric, section * SECTIONS, len(held))


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
    evaluation = plan.evaluation.model_copy(update={"max_records": 10**9})
    training = plan.training.model_copy(update=changes)
    return plan.model_copy(update={"rounds": SECTIONS, "training": training, "evaluation": evaluation})


def _sections(trainer: Workbench, start: State) -> Iterator[State]:
    state = start
    for number in range(1, SECTIONS + 1):
        update = trainer.train(number, state.tensors, tuple(state.tensors), state.experts)
        state = replace(state, tensors={name: values + update.delta[name] for name, values in state.tensors.items()})
        yield state


def _candidate(trainer: Workbench, state: State, step: int) -> _Candidate:
    metric, bits = trainer.evaluate(state.tensors, state.experts), trainer.bits(state.tensors, state.experts)
    return _Candidate(state, step, metric.numerator / metric.denominator, bits.numerator / bits.denominator)
