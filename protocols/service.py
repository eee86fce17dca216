"""The registry service's methods and messages: what an institution asks the operator for outside of any run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from protocols.acceptance import Withdrawal
from protocols.codec import Message, SignedMessage
from protocols.errors import MalformedMessage
from protocols.roster_offer import OfferedInstitution, Rotation, Voucher

SERVICE = "consortium.Registry"
MAX_MESSAGE = 2**20  # bytes of a request or reply; of a stream, of each message
UNARY_SECONDS = 60.0  # a call may ask for less time, never for more or for no end
STREAM_SECONDS = 3600.0
CHUNK = 1_000_000  # bytes of a file in one message of a stream

Asked = TypeVar("Asked", bound=Message)
Answered = TypeVar("Answered", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Asked, Answered]):
    """A method: its name, what is asked, and what is answered, once or as a stream."""

    name: str
    request: type[Asked]
    reply: type[Answered]
    streamed: bool = False

    @property
    def path(self) -> str:
        """As gRPC writes it."""
        return f"/{SERVICE}/{self.name}"

    @property
    def seconds(self) -> float:
        """The longest deadline of a call."""
        return STREAM_SECONDS if self.streamed else UNARY_SECONDS


@dataclass(frozen=True)
class JoinRequest(SignedMessage):
    """An invited institution's public keys: identity (Ed25519, 32 bytes), of its SuperNode (OpenSSH), for TLS (a CSR in PEM).

    Signed by the identity key; `coordinator_key` says to whom, so that it can be handed in nowhere else.
    """

    name: str
    coordinator_key: bytes
    identity_key: bytes
    node_key: str
    csr: str
    signature: bytes


@dataclass(frozen=True)
class JoinAnswer(Message):
    """Where a request stands: waiting, approved or refused; with approval comes the certificate (PEM)."""

    state: str
    certificate: str = ""


@dataclass(frozen=True)
class RenewRequest(Message):
    """A signing request (PEM) for another certificate of an institution that has one."""

    csr: str


@dataclass(frozen=True)
class IssuedCertificate(Message):
    """A certificate (PEM) for the key of the signing request."""

    certificate: str


@dataclass(frozen=True)
class NowRequest(Message):
    """A member asks for the time; there is nothing more to say."""


@dataclass(frozen=True)
class NowAnswer(Message):
    """The operator's time (ISO 8601, with its offset from UTC)."""

    time: str


@dataclass(frozen=True)
class KeptWithdrawal(Message):
    """The institution's word is on record; `models` are the released versions that contain its rounds, and say so from now on."""

    models: tuple[str, ...]


@dataclass(frozen=True)
class ModelListRequest(Message):
    """Versions of runs that the caller took part in: those with this name, or all if it is empty."""

    name: str = ""


@dataclass(frozen=True)
class ModelEntry(Message):
    """A released version. Times are ISO 8601; `withdrawn_at` is empty unless it was withdrawn."""

    name: str
    version: int
    run: str
    manifest_sha256: str
    released_at: str
    withdrawn_at: str
    withdrawn_reason: str


@dataclass(frozen=True)
class ModelList(Message):
    """By name and version."""

    versions: tuple[ModelEntry, ...]


@dataclass(frozen=True)
class ModelFileRequest(Message):
    """A file of a released version: `manifest.json`, or one that it names."""

    name: str
    version: int
    file: str


@dataclass(frozen=True)
class FileChunk(Message):
    """The next bytes of a file."""

    content: bytes


@dataclass(frozen=True)
class RosterRequest(Message):
    """Asks for everybody whom the coordinator offers, one message each, in order of name."""


@dataclass(frozen=True)
class RotateRequest(Message):
    """A rotation of the caller's key; `possession` is the new key's signature on the rotation's signed bytes."""

    rotation: Rotation
    possession: bytes


@dataclass(frozen=True)
class Recorded(Message):
    """What was asked is on the coordinator's disk."""


@dataclass(frozen=True)
class SpentRequest(Message):
    """Asks for the caller's own private runs, one message each."""


@dataclass(frozen=True)
class SpentRun(Message):
    """A private run in which the caller may have spent epsilon at delta, by rounds up to this one. The plan is its canonical bytes.

    Epsilon and delta are written as Python's `repr` of a float.
    """

    run: str
    plan: bytes
    rounds: int
    epsilon_text: str
    delta_text: str

    @property
    def epsilon(self) -> float:
        """Raises MalformedMessage if it is no number."""
        return _positive(self.epsilon_text)

    @property
    def delta(self) -> float:
        """Raises MalformedMessage if it is no number."""
        return _positive(self.delta_text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise MalformedMessage("what was spent is no positive number; both sides must run the same version")
    return value


JOIN = Method("Join", JoinRequest, JoinAnswer)
RENEW = Method("Renew", RenewRequest, IssuedCertificate)
NOW = Method("Now", NowRequest, NowAnswer)
WITHDRAW = Method("Withdraw", Withdrawal, KeptWithdrawal)
MODEL_LIST = Method("ModelList", ModelListRequest, ModelList)
MODEL_FILE = Method("ModelFile", ModelFileRequest, FileChunk, streamed=True)
ROSTER = Method("Roster", RosterRequest, OfferedInstitution, streamed=True)
ROTATE = Method("Rotate", RotateRequest, Recorded)
VOUCH = Method("Vouch", Voucher, Recorded)
SPENT = Method("Spent", SpentRequest, SpentRun, streamed=True)
