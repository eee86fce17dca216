"""What a node asks of the side that holds records and network."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from client.checkpoints import CheckpointOf
from protocols.state import Experts, Tensors
from protocols.terms import Adaptation


@dataclass(frozen=True, slots=True)
class LocalUpdate:
    """What one institution's training made of the round's starting point."""

    delta: Tensors  # trained tensors alone: after minus before, float32
    loss_sum: float  # over steps: the step's mean loss times its examples
    examples: int  # over steps, repetitions included
    tokens: int  # target tokens over steps, for weights = "tokens"
    expert_tokens: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)  # layer -> [E] tokens routed in training
    factors: Tensors = field(default_factory=dict)  # LoRA factors after training, where a second sum is made of them


@dataclass(frozen=True, slots=True)
class MetricSums:
    """The metric as a pair of sums: right records of records, or bits of bytes."""

    numerator: float
    denominator: int


@dataclass(frozen=True, slots=True)
class DraftSums:
    """Drafts of a multi-token prediction module on test records, and how many of them the network would have chosen itself."""

    accepted: int
    drafted: int


@dataclass(frozen=True, slots=True)
class PrivateRound:
    """One institution's part in a private round. `secret` is 32 fresh bytes: the same values are never drawn for other records."""

    round: int
    tensors: Tensors
    trained: tuple[str, ...]
    experts: Experts
    sampling_rate: float
    noise_multiplier: float  # read by the local mechanism alone
    secret: bytes = field(repr=False)
    label_counts: NDArray[np.float64] | None = None  # noised, for training.label_prior


class PrivateWork(Protocol):
    """Training under [privacy]; its randomness is the round's secret alone."""

    @property
    def units(self) -> int:
        """Records, or groups, as `privacy.unit` says; 0 where no column names groups."""

    def label_counts(self) -> NDArray[np.float64]:
        """Exact counts of the closed choices, [choices], to which each unit adds at most 1 in all. Never sent, never kept."""

    def train(self, asked: PrivateRound, checkpoint: CheckpointOf | None = None) -> Tensors:
        """DP-SGD, `local_steps` steps, or those that `checkpoint` has not kept: deltas of what is trained, float32."""

    def clipped_gradients(self, asked: PrivateRound) -> Iterator[NDArray[np.float64]]:
        """For one step, each drawn unit's clipped gradient [d]: tensors in the order of their names, flattened."""


class Work(Protocol):
    """Training and evaluation on one institution's records for one plan; deterministic in its arguments."""

    @property
    def base_sha256(self) -> str:
        """Hash of the checkpoint that is really loaded."""

    @property
    def adaptation(self) -> Adaptation:
        """`model.layout.Adaptation` of plan and base."""

    @property
    def private(self) -> PrivateWork:
        """The side that a plan with [privacy] trains with."""

    @property
    def max_rank(self) -> int | None:
        """Leading slices of LoRA pairs that a plan with nested ranks may train here; None for all."""

    def expert_affinity(self) -> Mapping[int, NDArray[np.float64]]:
        """Layer -> [E]: how much each expert is used on the training records, by tokens or gate as the plan says."""

    def gradient_sketch(
        self, tensors: Tensors, experts: Experts, omegas: Mapping[str, NDArray[np.float64]]
    ) -> Mapping[str, NDArray[np.floating[Any]]]:
        """G Omega [out, s] by module: G is the mean gradient of its weight on (enough of) the training records; asked by Fed-SB alone."""

    def gradient_core(
        self, tensors: Tensors, experts: Experts, bases: Mapping[str, NDArray[np.float64]]
    ) -> Mapping[str, NDArray[np.floating[Any]]]:
        """Q^T G [s, in] by module, for bases Q [out, s]."""

    def train(
        self,
        round_number: int,
        tensors: Tensors,
        trained: Collection[str],
        experts: Experts,
        corrections: Tensors | None = None,
        checkpoint: CheckpointOf | None = None,
    ) -> LocalUpdate:
        """`local_steps` steps from `tensors` on the `trained` ones, at `protocols.schedule.learning_rate`.

        Every step moves by SCAFFOLD's `corrections` (`protocols.aggregation.scaffold`) less, each times the learning rate.
        What `checkpoint` has kept of the very same training is gone on from, and on a CPU ends with the same bits.
        """

    def train_alone(self, round_number: int, tensors: Tensors, experts: Experts, steps: int | None = None) -> LocalUpdate:
        """A round of whoever trains without others: all tensors, in every round, on the records that are next; `steps` or `local_steps`."""

    def evaluate(self, tensors: Tensors, experts: Experts) -> MetricSums:
        """The plan's metric over this institution's test records."""

    def drafts(self, tensors: Tensors, experts: Experts) -> DraftSums:
        """Greedy acceptance on at most `protocols.sums.evaluate.DRAFT_RECORDS` test records; asked only where such a module is adapted."""
