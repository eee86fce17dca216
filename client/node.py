"""One institution in the federation: checks what is asked, does it, and answers once, with what it decided already on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from numpy.typing import NDArray

from client.accepting import check_taking_part
from client.checkpoints import Checkpoints
from client.ledger import Ledger
from client.work import Work
from protocols.epoch import EpochManifest
from protocols.errors import Refusal
from protocols.identity import Identity
from protocols.parties import Parties
from protocols.plan import Plan, plan_from_canonical
from protocols.policy import Policy
from protocols.roster import FormerKey, Roster
from protocols.schedule import PlannedSum, planned_sums
from protocols.state import State, load_state, state_hash
from protocols.terms import Terms

Arrays = Mapping[str, NDArray[Any]]
logger = logging.getLogger("consortium.client")


@dataclass(frozen=True, slots=True)
class Request:
    """What the coordinator asks, after its signature was checked."""

    run: str
    round: int
    about: str  # "update", "experts", "evaluate", "epoch" or "run"
    attempt: int
    manifest_hash: bytes  # of the sum's or epoch's manifest; empty where there is none
    message_type: str
    parts: Mapping[str, bytes]
    arrays: Arrays
    signed: bytes = b""  # the envelope as it came: evidence, if it contradicts another

    @property
    def key(self) -> str:
        """Under this key the node answers once."""
        return f"{self.run}/{self.round}/{self.about}/{self.attempt}/{self.message_type}"

    def part(self, name: str) -> bytes:
        if name not in self.parts:
            raise Refusal(f"the request {self.key} has no {name}; both sides must run the same version")
        return self.parts[name]


@dataclass(frozen=True, slots=True)
class Result:
    """What a handler answers."""

    parts: Mapping[str, bytes]
    arrays: Arrays = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Node:
    """Everything that is one institution's own."""

    identity: Identity
    roster: Roster
    coordinator_key: bytes  # Ed25519, pinned when the institution joined
    policy: Policy
    ledger: Ledger
    open_work: Callable[[Plan], Work]  # its holder keeps it warm
    randomness: Callable[[int], bytes]
    local_time: Callable[[], datetime]  # of the place where the institution is: its policy names hours
    rounding_seed: bytes | None = None  # None outside of simulation and tests: rounding is then nobody's to predict
    checkpoint_seconds: float = 0.0  # at least, between two of a training; 0 for none
    stopwatch: Callable[[], float] = time.monotonic
    former: tuple[FormerKey, ...] = ()  # of all institutions, in the order in which they were replaced
    former_identity: Identity | None = None  # until the last epoch that began under it is over

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.ledger.home, self.checkpoint_seconds, self.stopwatch)

    @property
    def parties(self) -> Parties:
        return Parties(self.roster, self.coordinator_key, self.former)

    def signer(self, epoch: EpochManifest) -> Identity:
        """The own identity as it was when an epoch was agreed: a new key signs from the next epoch on."""
        key, before = self.parties.roster_of(epoch).key_of(self.name), self.former_identity
        return before if before is not None and before.public_key == key else self.identity


@dataclass(frozen=True, slots=True)
class Session:
    """A node's view of one run: the plan that it accepted, and where it stands."""

    plan: Plan
    work: Work
    terms: Terms
    state: State
    state_hash: bytes
    transcript: bytes  # hash of the last one seen; zeros at the start
    finished: int = 0  # sums of the plan that are over


def open_session(node: Node, run: str) -> Session:
    """The run as this node knows it; its state is computed here or read from its own disk, never taken from a request.

    Raises:
        Refusal: the run is unknown, or the base on disk is not the plan's.
    """
    canonical = node.ledger.plan(run)
    if canonical is None:
        raise Refusal(f"run {run} was never announced to {node.name}; greet it with the plan first")
    check_taking_part(node, run)
    plan = plan_from_canonical(canonical)
    work = node.open_work(plan)
    if work.base_sha256 != plan.base.sha256:
        raise Refusal(
            f"the base {plan.base.name} on the disk of {node.name} is not the plan's; install the checkpoint with the plan's hash"
        )
    terms = Terms(plan, work.adaptation, node.ledger.home)
    position = node.ledger.position(run)
    if position is None:
        start = terms.start()
        return Session(plan, work, terms, start, state_hash(start), bytes(32))
    path = node.ledger.state_path(run, position.state_hash)
    state = load_state(path)
    digest = node.ledger.digests.of(path, lambda: state_hash(state))
    return Session(plan, work, terms, state, digest, position.transcript, position.finished)


def next_sum(session: Session, request: Request) -> PlannedSum:
    """The plan's next sum at this node: a finished one is never taken up again, and none is left out.

    Raises:
        Refusal: the request is about another one.
    """
    following = planned_sums(session.plan)[session.finished : session.finished + 1]
    if (request.round, request.about) not in [(planned.round, planned.kind) for planned in following]:
        name = "".join(f"the {planned.kind} sum of round {planned.round}" for planned in following) or "none"
        raise Refusal(f"the next sum of run {request.run} is {name}, not the {request.about} sum of round {request.round}")
    return following[0]
