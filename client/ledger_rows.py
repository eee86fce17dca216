"""What the ledger gives out: a frozen record for each kind of row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A signed answer as it left; what travelled beside it follows from what else is on disk."""

    request: bytes
    reply: bytes


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """How far an epoch's setup has come, with the secrets that stage needs."""

    manifest: bytes
    stage: str
    state: bytes


@dataclass(frozen=True, slots=True)
class FinishedSum:
    """A sum whose transcript this institution followed, or whose state it adopted."""

    run: str
    round: int
    sum: str
    transcript: bytes
    state_hash: bytes  # after the sum
    institutions: int
    at: str


class Evidence(NamedTuple):
    """A refused request and the earlier one that it contradicts, both as they were signed."""

    key: str
    request: bytes
    earlier: bytes


class Challenge(NamedTuple):
    """Chunks that this institution drew to look at, and the signed message that bound the coordinator before."""

    chunks: bytes  # 4 bytes each, little-endian
    committed: bytes


class Position(NamedTuple):
    """Where a run stands at this institution."""

    state_hash: bytes
    transcript: bytes  # hash of the last one that was applied, or whose state was adopted
    finished: int  # sums of the plan that are over
