"""What a running plan tells whoever watches it; plain values, for a progress display or a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from protocols.state import Experts


@dataclass(frozen=True, slots=True)
class RunStarted:
    """`done` rounds were finished by an earlier process (0 includes none: the next round may still be round 0)."""

    run: str
    rounds: int
    resumed_after: int | None  # last finished round, None for a run from the start


@dataclass(frozen=True, slots=True)
class EpochCertified:
    """Keys and shares are exchanged among these institutions."""

    epoch: int
    institutions: tuple[str, ...]
    threshold: int
    colluding: int


@dataclass(frozen=True, slots=True)
class StageBegun:
    """These institutions are asked, and waited for so many seconds."""

    round: int
    kind: str
    attempt: int
    stage: str
    institutions: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class InstitutionAnswered:
    """One of those whom the stage under way waits for, or with a reason one that it waits for no longer."""

    institution: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StageFinished:
    """One stage of a sum: who answered, and who was left out with a reason."""

    round: int
    kind: str
    attempt: int
    stage: str
    answered: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]  # (institution, reason)


@dataclass(frozen=True, slots=True)
class SumFinished:
    """A total was opened over these institutions, and applied."""

    round: int
    kind: str
    institutions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExpertsChosen:
    """Routed experts that the plan adapts, by layer."""

    experts: Experts


@dataclass(frozen=True, slots=True)
class RoundFinished:
    """A round is in the registry. Bytes are totals of serialised messages over institutions."""

    round: int
    institutions: int
    missing: tuple[str, ...]
    loss: float | None
    metric: float | None
    seconds: float
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The last round is in the registry."""

    run: str


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The registry says so too, with the same sentence."""

    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunPaused:
    """It waits for the operator, or for the institutions that the reason names."""

    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunResumed:
    """It goes on."""

    run: str


Event: TypeAlias = (
    RunStarted
    | EpochCertified
    | StageBegun
    | InstitutionAnswered
    | StageFinished
    | SumFinished
    | ExpertsChosen
    | RoundFinished
    | RunPaused
    | RunResumed
    | RunFinished
    | RunFailed
)
