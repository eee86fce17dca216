"""What is written to and read from the registry, as frozen values; no row of the database leaves the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from coordinator.registry.states import JoinState, RunState, WantedState


@dataclass(frozen=True, slots=True)
class NewRun:
    """A submitted plan."""

    plan_name: str
    plan_sha256: str
    plan: str  # canonical JSON (protocols.plan)
    base_sha256: str
    seed: int
    rounds: int
    terms_sha256: str = ""
    metric: str = "accuracy"
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the registry has it now."""

    run: str
    plan_name: str
    plan_sha256: str
    plan: str
    base_sha256: str
    terms_sha256: str
    seed: int
    rounds: int
    metric: str
    higher_is_better: bool
    state: RunState
    wanted: WantedState
    reason: str  # why it failed or was stopped; empty otherwise
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Contribution:
    """One institution's part in a round: that it was summed, or from which stage on it was missing. Never what it sent."""

    institution: str
    bytes_up: int
    bytes_down: int
    missing_from: str | None = None  # stage, e.g. "train.sum"; None when its update is in the sum
    reason: str = ""  # why it was missing, in a sentence


@dataclass(frozen=True, slots=True)
class Spent:
    """At most what an institution had spent of one unit's privacy in a run by the end of a round.

    Nobody outside knows an institution's number of records, so it is what the plan promises of the whole run, from its first round on.
    """

    institution: str
    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True)
class Round:
    """A finished round. Round 0 measures the base and, for ESFT, chooses the experts."""

    number: int
    state_sha256: str
    transcripts: Mapping[str, str]  # name of the sum -> hash of its transcript, in the order of the sums
    contributions: tuple[Contribution, ...]
    seconds: float
    loss: float | None = None  # mean over the institutions' training examples
    metric: float | None = None  # None in a round without evaluation
    experts: Mapping[int, tuple[int, ...]] | None = None  # layer -> experts chosen; after round 0, those that it could move
    finished_at: datetime | None = None  # None until recorded
    figures: Mapping[str, float] = field(default_factory=dict)  # what its sums say beyond loss and metric, by name
    spent: tuple[Spent, ...] = ()  # in a private run, from the first update on; also of those who were missing, whose updates may have left

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(sorted(part.institution for part in self.contributions if part.missing_from))

    @property
    def institutions(self) -> int:
        return len(self.contributions) - len(self.missing)

    @property
    def bytes_up(self) -> int:
        return sum(part.bytes_up for part in self.contributions)

    @property
    def bytes_down(self) -> int:
        return sum(part.bytes_down for part in self.contributions)


@dataclass(frozen=True, slots=True)
class Participant:
    """An institution that the registry knows, with its Ed25519 public key in hexadecimal."""

    name: str
    public_key: str
    joined_at: datetime | None = None  # None until recorded
    node_key: str | None = None  # of its SuperNode, OpenSSH or PEM text; None before it was approved
    certificate_sha256: str | None = None  # hexadecimal, of its client certificate
    revoked_at: datetime | None = None
    revoked_reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A released model: the directory, and the hash of its signed manifest."""

    name: str
    version: int
    run: str
    path: str
    manifest_sha256: str
    transcript_sha256: str
    signer: str  # Ed25519 public key in hexadecimal
    metric: float | None
    released_at: datetime | None = None  # None until recorded
    withdrawn_at: datetime | None = None
    withdrawn_reason: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """A link of the chain; `body` is canonical JSON."""

    sequence: int  # 1, 2, ...
    kind: str
    run: str | None
    at: datetime
    body: str
    previous_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Invitation:
    """Who may ask to join until when; the certificate's hash is hexadecimal."""

    name: str
    certificate_sha256: str
    expires_at: datetime
    used_at: datetime | None = None
    created_at: datetime | None = None  # None until recorded


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What an institution asks to join with: its keys' public parts and a certificate request, signed with its identity key."""

    name: str
    identity_key: str  # Ed25519, hexadecimal
    node_key: str
    csr: str  # PEM
    signature: str  # hexadecimal
    requested_at: datetime | None = None  # None until recorded
    state: JoinState = JoinState.WAITING


@dataclass(frozen=True, slots=True)
class Rotation:
    """An institution's new key, signed with the one before; both Ed25519 in hexadecimal."""

    institution: str
    old_key: str
    new_key: str
    signature: str  # hexadecimal
    at: datetime | None = None  # None until recorded


@dataclass(frozen=True, slots=True)
class Voucher:
    """The word of institution `by` that `public_key` is that of `subject`."""

    subject: str
    public_key: str
    by: str
    signature: str  # hexadecimal
    at: datetime | None = None  # None until recorded


@dataclass(frozen=True, slots=True)
class Answer:
    """An institution's signed answer to a run's plan; a refusal gives its reason."""

    institution: str
    accepted: bool
    reason: str
    statement: str
    signature: str  # hexadecimal
    at: datetime | None = None  # None until recorded


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """An institution's signed word that it takes no further part in a run, or in any."""

    institution: str
    run: str | None  # None: all runs
    statement: str
    signature: str  # hexadecimal
    at: datetime | None = None  # None until recorded
