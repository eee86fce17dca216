"""A rehearsal from the plan to the bytes: what the round does to the loss, what its vectors hold, and what would leave."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np

from client.node import Node, Session
from client.personal_training import measured_state
from client.rehearsal.cohort import RehearsalCohort, rehearsal_cohort
from client.rehearsal.histogram import BINS, Histograms, lane_counts, masked_counts
from client.rehearsal.node import RUN, rehearsal_node, rehearsal_session
from client.rehearsal.playing import ROUND, PlayedSum, play
from client.rehearsal.report import Held, Rehearsal, SentMessage
from client.rehearsal.upload import upload_messages
from client.workbench import Workbench
from protocols.policy import Policy
from protocols.schedule import PlannedSum
from protocols.secagg import chunks_of


@dataclass(frozen=True, slots=True)
class Means:
    """What a rehearsal takes from the machine."""

    clock: Callable[[], datetime]
    seconds: Callable[[], float]
    peak_memory: Callable[[], int]  # bytes
    randomness: Callable[[int], bytes]
    scratch: Path  # where a folder for the rehearsal's own files may be made
    on_sum: Callable[[PlannedSum], None] = lambda _: None  # told before each sum
    on_step: Callable[[int], None] = lambda _: None  # told after each step of a training, counted from 1


def rehearse(bench: Workbench, name: str, institutions: int, policy: Policy, out: BinaryIO, means: Means) -> Rehearsal:
    """Plays the first round of the bench's plan and writes what would be sent in it to `out`.

    Args:
        institutions: on the roster of `name`; simulated peers take the place of the others, and of those that the plan lacks.

    Raises:
        ConsortiumError, ModelError: the institution's node would not take part, or what it computes does not fit.
    """
    cohort = rehearsal_cohort(bench.plan, name, institutions)
    # A rehearsal is asked for by a person, so it waits for nobody's approval.
    own = policy.model_copy(update={"approval": "none"})
    with rehearsal_node(cohort.names, own, bench, means.clock, means.randomness, means.scratch, means.on_step) as node:
        return _Rehearsing(bench, node, cohort, out, means).run()


class _Rehearsing:
    """What is noted while the sums are played."""

    def __init__(self, bench: Workbench, node: Node, cohort: RehearsalCohort, out: BinaryIO, means: Means) -> None:
        self._bench, self._node, self._cohort, self._out, self._means = bench, node, cohort, out, means
        self._seconds: dict[str, float] = {}
        self._messages: list[SentMessage] = []
        self._histograms: Histograms | None = None
        self._held: tuple[Held, ...] = ()

    def run(self) -> Rehearsal:
        played: list[PlayedSum] = []
        losses: list[float] = []
        started, sums = (
            self._means.seconds(),
            play(self._node, rehearsal_session(self._node, self._bench.plan), self._cohort, self._means.on_sum),
        )
        for one in sums:
            self._seconds[f"{one.planned.round}/{one.planned.kind}"] = self._means.seconds() - started
            if one.planned.round == ROUND:
                losses = losses or [self._loss(one.before, 0)]
                self._send(one)
            played.append(one)
            started = self._means.seconds()
        losses.append(self._loss(played[-1].after, ROUND))
        return self._told(played, losses)

    def _told(self, played: list[PlayedSum], losses: list[float]) -> Rehearsal:
        metrics = [one.figures.metric for one in played if one.planned.kind == "evaluate"]
        [update] = [one for one in played if one.planned.kind == "update"]
        return Rehearsal(
            plan=self._bench.plan,
            institution=self._cohort.name,
            institutions=self._cohort.size,
            test_bits_per_byte=(losses[0], losses[1]),
            training_loss=update.figures.loss,
            metric=(metrics[0], metrics[1] if len(metrics) > 1 else None),
            seconds=dict(self._seconds),
            peak_memory=self._means.peak_memory(),
            held=self._held,
            messages=tuple(self._messages),
            histograms=self._histograms or Histograms((0,) * BINS, None),
        )

    def _loss(self, session: Session, round_number: int) -> float:
        state = measured_state(self._node, RUN, session, PlannedSum(round_number, "evaluate", True))
        sums = self._bench.loss(state.tensors, state.experts)
        return sums.numerator / sums.denominator

    def _send(self, one: PlayedSum) -> None:
        format_, counts = one.lanes.format, np.zeros(BINS, np.int64)
        for part, message in enumerate(upload_messages(self._node, self._cohort, one.planned, one.lanes, one.vector)):
            self._out.write(message.envelope)
            self._out.write(message.chunks)
            self._messages.append(SentMessage(one.planned.kind, part, len(message.envelope), len(message.chunks)))
            if one.planned.kind == "update":
                counts += masked_counts(message.chunks, chunks_of(format_, part).start, format_)
        if one.planned.kind == "update":
            # A second draw of noise on the same records, which no budget was charged for, is shown to nobody.
            update = None if self._bench.plan.privacy else lane_counts(one.vector, format_)
            self._histograms = Histograms(tuple(counts.tolist()), update)
            bits = one.lanes.bits_of
            self._held = tuple(Held(block.name, block.shape, bits(block), block.integer) for block, _ in one.lanes.spans())


@contextmanager
def written(path: Path | None) -> Iterator[BinaryIO]:
    """The file that would-be messages go to, readable for its owner alone; without a path they go nowhere."""
    target = os.devnull if path is None else path
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        if path is not None:
            os.fchmod(file.fileno(), 0o600)  # of a file that was there before, too
        yield file
