"""The coordinator's side of every conversation: signs requests, checks answers, and keeps count of bytes and of who is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from coordinator.events import Event, InstitutionAnswered, StageBegun
from coordinator.exchange import Answer, Exchange
from coordinator.members import Members
from coordinator.outbox import Outbox
from coordinator.store import Part
from protocols.errors import ConsortiumError
from protocols.identity import Envelope, Identity, seal_envelope
from protocols.pack import unpack
from protocols.roster import Roster
from protocols.wire import Parcel

T = TypeVar("T")
Arrays = Mapping[str, NDArray[Any]]
_LONGEST_REASON = 400
_LONGEST_KEPT = 200  # of a reason that goes into the registry for good


@dataclass(frozen=True, slots=True)
class Subject:
    """What a conversation is about; with the stage it is the key under which a node answers once."""

    round: int
    about: str  # "update", "experts", "evaluate", "epoch" or "run"
    attempt: int
    manifest_hash: bytes = b""  # of the sum's or epoch's manifest, where there is one

    def stage(self, message_type: str) -> str:
        return f"{self.about}/{message_type}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A verified answer."""

    institution: str
    parts: Mapping[str, bytes]
    arrays: Arrays
    incarnation: int
    envelope: bytes  # as it was signed

    def part(self, name: str) -> bytes:
        """Raises ConsortiumError if the answer lacks it."""
        if name not in self.parts:
            raise ConsortiumError(f"its answer has no {name}; both sides must run the same version")
        return self.parts[name]

    @property
    def chunks(self) -> memoryview:
        """The written chunks of an upload. Raises ConsortiumError if the answer has none."""
        chunks = self.arrays.get("chunks")
        if chunks is None or chunks.dtype != np.uint8 or chunks.ndim != 1:
            raise ConsortiumError("its answer has no chunks of an upload; both sides must run the same version")
        return chunks.data


@dataclass(slots=True)
class _Traffic:
    parts: dict[str, Part] = field(default_factory=dict)

    def add(self, name: str, answer: Answer) -> None:
        before = self.parts.get(name, Part())
        self.parts[name] = replace(before, bytes_up=before.bytes_up + answer.bytes_up, bytes_down=before.bytes_down + answer.bytes_down)

    def miss(self, name: str, stage: str, reason: str) -> None:
        before = self.parts.get(name, Part())
        if before.missing_from is None:
            self.parts[name] = replace(before, missing_from=stage, reason=reason[:_LONGEST_KEPT])


class Link:
    """Asks institutions by name. Names are found by greeting every node; only signatures decide who someone is."""

    def __init__(
        self,
        exchange: Exchange,
        identity: Identity,
        members: Members,
        run: str,
        deadline: float,
        outbox: Outbox,
        attending: Callable[[str], Mapping[str, str]] = lambda _: {},
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        """`attending` is asked during a stage, by message type, who is waited for no longer, and why; what it raises ends the stage."""
        self.identity = identity
        self.members = members
        self.run = run
        self.missing: dict[str, str] = {}  # institution -> why it did not answer the last question
        self.accused: dict[str, str] = {}  # institution -> whom it blames for that
        self.refused: dict[str, str] = {}  # institution -> its own signed words, where it declined the last question
        self.unaccepted: dict[str, tuple[str, ...]] = {}  # institution -> whom it does not have on its roster, or with another key
        self.bound: dict[str, tuple[str, ...]] = {}  # institution -> the set that it signed before, where it refuses another one for good
        self.seen_events: dict[str, int] = {}  # institution -> length of the event chain that it said to have seen, 0 of none
        self._exchange = exchange
        self._deadline = deadline
        self._outbox = outbox
        self._attending = attending
        self._on_event = on_event
        self._nodes: dict[str, int] = {}
        self._incarnations: dict[str, int] = {}
        self._traffic = _Traffic()

    @property
    def roster(self) -> Roster:
        """The institutions that are asked now."""
        return self.members.roster

    def greet(self, plan: bytes) -> dict[str, Reply]:
        """Greets every connected node with the plan and learns which institution it is; replaces the former directory."""
        subject, nodes, before = Subject(0, "run", 0), self._exchange.nodes(), {node: name for name, node in self._nodes.items()}
        parcel = self._sealed(subject, "query.hello", "", plan, {})
        greetings: dict[str, Reply] = {}
        self.missing, self._nodes, self._incarnations = {}, {}, {}
        self.accused, self.refused, self.unaccepted, self.bound = {}, {}, {}, {}
        # Who is there now is the question: whoever is not is not waited for.
        dismissed = partial(self._dismissed, "query.hello", before)
        for answer in self._exchange.ask("query.hello", nodes, lambda _: parcel, self.run, self._deadline, 0.0, dismissed):
            # Whoever does not answer is called as it was before: only for the reason, as nothing was signed.
            reply = self._opened(answer, subject, "query.hello", before.get(answer.node) if answer.parcel is None else None)
            if reply is not None and reply.institution not in greetings:
                greetings[reply.institution] = reply
                self._nodes[reply.institution] = answer.node
                self._incarnations[reply.institution] = reply.incarnation
                self.seen_events[reply.institution] = _count(reply.parts.get("chain", b""))
        for name in self.roster.names:
            if name not in greetings:
                self._miss(name, "query.hello", self.missing.get(name, "it is not connected"))
        return greetings

    def ask(
        self,
        subject: Subject,
        message_type: str,
        payloads: Mapping[str, bytes],
        arrays: Arrays | None = None,
        deadline: float | None = None,
    ) -> Iterator[Reply]:
        """Yields verified answers as they arrive, for `deadline` seconds or the plan's; afterwards `missing` says who gave none and why."""
        self.missing = {name: "it is not connected" for name in payloads if name not in self._nodes}
        self.accused, self.refused, self.unaccepted, self.bound = {}, {}, {}, {}
        names = {self._nodes[name]: name for name in payloads if name in self._nodes}
        content = arrays or {}

        def parcel_of(node: int) -> Parcel:
            return self._sealed(subject, message_type, names[node], payloads[names[node]], content)

        silent, group, seconds = set(names.values()), f"{self.run}/{subject.round}", deadline or self._deadline
        self._on_event(StageBegun(subject.round, subject.about, subject.attempt, message_type, tuple(sorted(silent)), seconds))
        dismissed = partial(self._dismissed, message_type, names)
        for answer in self._exchange.ask(message_type, sorted(names), parcel_of, group, seconds, dismissed=dismissed):
            name = names[answer.node]
            silent.discard(name)
            reply = self._opened(answer, subject, message_type, name)
            self._on_event(InstitutionAnswered(name, "" if reply else self.missing[name]))
            if reply is None:
                self._miss(name, message_type, self.missing[name])
            else:
                yield reply
        for name in sorted(silent):
            self._miss(name, message_type, "it did not answer in time")

    def decide(
        self,
        subject: Subject,
        message_type: str,
        payloads: Mapping[str, bytes],
        read: Callable[[Reply], T],
        deadline: float | None = None,
    ) -> dict[str, T]:
        """`collect` for what an institution answers once: the requests are on disk before the first one leaves."""
        # Hashes, one after the other: what a setup relays to all members may be more than fits into memory at once.
        asked = ((name, self._sealed(subject, message_type, name, payload, {}).envelope) for name, payload in payloads.items())
        requests = {name: hashlib.sha256(request).hexdigest() for name, request in asked}
        question = f"{self.run}/{subject.round}/{subject.stage(message_type)}/{subject.attempt}"
        self._outbox.keep(question, subject.attempt, deadline or self._deadline, requests)
        return self.collect(subject, message_type, payloads, read, deadline=deadline)

    def follow_up(
        self, subject: Subject, message_type: str, payloads: Mapping[str, bytes], read: Callable[[Reply], T], arrays: Arrays | None = None
    ) -> dict[str, T]:
        """`collect` for the second half of a stage: who was missing from the first stays missing."""
        missing, accused = self.missing, self.accused
        answers = self.collect(subject, message_type, payloads, read, arrays)
        self.missing, self.accused = missing | self.missing, accused | self.accused
        return answers

    def collect(
        self,
        subject: Subject,
        message_type: str,
        payloads: Mapping[str, bytes],
        read: Callable[[Reply], T],
        arrays: Arrays | None = None,
        deadline: float | None = None,
    ) -> dict[str, T]:
        """What `read` makes of each answer as it arrives; whose answer it refuses with a ConsortiumError is missing, and nobody else."""
        answers: dict[str, T] = {}
        for reply in self.ask(subject, message_type, payloads, arrays, deadline):
            try:
                answers[reply.institution] = read(reply)
            except ConsortiumError as error:
                self.exclude(reply.institution, message_type, str(error))
        return answers

    def exclude(self, name: str, message_type: str, reason: str) -> None:
        """Counts an institution as missing whose answer was signed but wrong."""
        self._miss(name, message_type, _one_line(reason))

    def take_traffic(self) -> dict[str, Part]:
        """Bytes, first missed stage and why it was missed, by institution, since the last call."""
        parts, self._traffic = self._traffic.parts, _Traffic()
        return parts

    def _dismissed(self, message_type: str, names: Mapping[int, str]) -> dict[int, str]:
        reasons = self._attending(message_type)
        return {node: _one_line(reasons[name]) for node, name in names.items() if name in reasons}

    def _sealed(self, subject: Subject, message_type: str, recipient: str, payload: bytes, arrays: Arrays) -> Parcel:
        stage = subject.stage(message_type)
        envelope = Envelope(
            self.identity.name, recipient, self.run, subject.round, subject.attempt, stage, subject.manifest_hash, 0, payload
        )  # fmt: skip
        return Parcel(seal_envelope(self.identity, envelope), arrays)

    def _opened(self, answer: Answer, subject: Subject, message_type: str, expected: str | None) -> Reply | None:
        """The answer's content, or None with a reason in `missing`."""
        if answer.parcel is None:
            self.missing[expected or f"node {answer.node}"] = answer.error
            return None
        name = expected
        try:
            envelope = self.members.open_envelope(answer.parcel.envelope)
            name = expected or envelope.sender
            self._traffic.add(name, answer)
            meant = (name, self.identity.name, self.run, subject.round, subject.attempt, subject.stage(message_type), subject.manifest_hash)
            signed = (envelope.sender, envelope.recipient, envelope.run, envelope.round, envelope.attempt, envelope.stage)
            if meant != (*signed, envelope.manifest_hash):
                raise ConsortiumError("it answered with an envelope for another request")
            if expected and envelope.incarnation != self._incarnations[expected]:
                raise ConsortiumError(
                    "it answered from another incarnation of its ledger than it greeted with; it may return at the next epoch"
                )
            parts = unpack(envelope.payload)
        except ConsortiumError as error:
            self.missing[name or f"node {answer.node}"] = _one_line(str(error))
            return None
        if "refused" in parts:
            self.missing[name] = self.refused[name] = _one_line(parts["refused"].decode(errors="replace"))
            self.accused[name] = parts.get("accused", b"").decode(errors="replace")
            self.unaccepted[name] = _names(parts.get("unaccepted", b""))
            if bound := _names(parts.get("signed_set", b"")):
                self.bound[name] = bound
            return None
        return Reply(name, parts, answer.parcel.arrays, envelope.incarnation, answer.parcel.envelope)

    def _miss(self, name: str, message_type: str, reason: str) -> None:
        self.missing[name] = reason
        self._traffic.miss(name, message_type, _one_line(reason))


def _count(digits: bytes) -> int:
    """A member's number, 0 for what is none."""
    return int(digits) if digits.isdigit() and len(digits) < 19 else 0


def _names(packed: bytes) -> tuple[str, ...]:
    """Those that a refusal lists, none for what is no list."""
    try:
        return tuple(unpack(packed)) if packed else ()
    except ConsortiumError:
        return ()


def _one_line(reason: str) -> str:
    """A member chooses the words, and they go to the operator's terminal and into the registry for good."""
    return "".join(letter if letter.isprintable() else " " for letter in reason[:_LONGEST_REASON])
