"""Everything that a lying coordinator and the institutions that collude with it ever see, byte by byte, and a few questions about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from client.node import Node, open_session
from protocols.codec import Message
from protocols.encoding import rescaled
from protocols.epoch import EpochManifest, EpochState, KeysState, SharesState
from protocols.errors import Refusal
from protocols.identity import Envelope
from protocols.pack import unpack
from protocols.schedule import planned_sums
from protocols.secagg import SumManifest, SurvivorCertificate, SurvivorProposal, UnmaskAnswer
from protocols.wire import Parcel
from tests.federation.federation import Federation

Lanes = NDArray[np.uint32]
SETUP: Mapping[str, type[Message]] = {"keys": KeysState, "shares": SharesState, "confirmed": EpochState}


@dataclass(frozen=True)
class Seen:
    """One request and its answer, as they crossed the wire."""

    institution: str
    message_type: str
    request: Parcel
    answer: Parcel

    @cached_property
    def asked(self) -> Envelope:
        return _envelope(self.request)

    @cached_property
    def said(self) -> Mapping[str, bytes]:
        return unpack(_envelope(self.answer).payload)

    @property
    def refused(self) -> bool:
        return "refused" in self.said

    @cached_property
    def manifest(self) -> SumManifest:
        """What the request asks, if it is about a sum."""
        return SumManifest.from_bytes(unpack(self.asked.payload)["manifest"])

    @cached_property
    def members(self) -> tuple[str, ...]:
        """The set that the request proposes or opens."""
        return self._proposal.members

    @property
    def set_hash(self) -> bytes:
        return self._proposal.hash

    @cached_property
    def _proposal(self) -> SurvivorProposal:
        parts = unpack(self.asked.payload)
        if "proposal" in parts:
            return SurvivorProposal.from_bytes(parts["proposal"])
        return SurvivorCertificate.from_bytes(parts["certificate"]).proposal

    @cached_property
    def opened(self) -> UnmaskAnswer:
        return UnmaskAnswer.from_bytes(self.said["answer"])

    def bytes_of(self) -> Iterator[bytes]:
        """All that was sent, in both directions."""
        for parcel in (self.request, self.answer):
            yield parcel.envelope
            yield from (np.ascontiguousarray(values).tobytes() for values in parcel.arrays.values())


class Adversary:
    """Listens to a federation from now on. What honest institutions alone know is under `secrets` and `inputs`, for invariants only."""

    def __init__(self, federation: Federation, colluders: Sequence[str], caplog: pytest.LogCaptureFixture) -> None:
        self.federation = federation
        self.colluders = frozenset(colluders)
        self.caplog = caplog
        self.seen: list[Seen] = []
        self.held: dict[tuple[str, bytes], EpochState] = {}  # colluders' secrets by epoch, kept although their ledgers erase them
        self.secrets: dict[tuple[str, str, int, str], Message] = {}  # (institution, run, epoch, stage), as a ledger held it first
        self.inputs: dict[tuple[str, bytes], Lanes] = {}  # an institution's plain vector, by hash of the manifest that it was masked for
        federation.on_answer = self._listen

    @property
    def honest(self) -> list[str]:
        return [name for name in self.federation.names if name not in self.colluders]

    def answered(self, *message_types: str) -> list[Seen]:
        """What was answered to these types, refusals left out."""
        return [one for one in self.seen if one.message_type in message_types and not one.refused]

    def sums(self) -> list[Seen]:
        """Every upload's root and first part."""
        return self.answered("train.sum", "evaluate.sum")

    def epochs(self) -> dict[bytes, EpochManifest]:
        """Terms of every epoch that was announced, by hash."""
        announced = (one for one in self.seen if one.message_type == "query.epoch_keys")
        read = (EpochManifest.from_bytes(unpack(one.asked.payload)["manifest"]) for one in announced)
        return {manifest.hash: manifest for manifest in read}

    def shares(self, epoch: bytes, slot: int, dealer: str) -> tuple[set[str], set[str]]:
        """Whose shares of a dealer's self seed, and whose of its recovery secret, were seen: sent in an answer, or held by a colluder."""
        own = {name for name, held in self.held if held == epoch and self.held[name, held].self_seeds[slot]}
        selves, recoveries = set(own), set(own)
        for one in self.answered("query.unmask"):
            if (one.manifest.epoch_hash, one.manifest.slot) == (epoch, slot):
                selves |= {one.institution} if dealer in one.opened.self_seeds else set()
                recoveries |= {one.institution} if dealer in one.opened.recovery_secrets else set()
        return selves, recoveries

    def captured(self) -> Iterator[tuple[str, bytes]]:
        """Every byte with the place where it was seen: the wire, the coordinator's disk and registry, all logs."""
        for one in self.seen:
            yield from ((f"{one.message_type} of {one.institution}", data) for data in one.bytes_of())
        for path in self.coordinator_files():
            yield str(path.name), path.read_bytes()
        yield "registry", "\n".join(rows(self.federation.directory / "registry.db")).encode()
        for phase in ("setup", "call"):
            yield "log", "\n".join(record.getMessage() for record in self.caplog.get_records(phase)).encode()

    def view(self) -> list[tuple[str, bytes]]:
        """All of `captured`, and the colluders' whole ledgers and files, in a form that two runs of the same bytes agree in."""
        found = [(place, data) for place, data in self.captured() if not place.startswith("registry.db")]
        for name in sorted(self.colluders):
            home = self.federation.directory / "institutions" / name
            rest = (path for path in sorted(home.rglob("*")) if path.is_file() and path.name not in ("incarnation", *LEDGER))
            found += [(f"{name}'s {path.name}", path.read_bytes()) for path in rest]
            found.append((f"ledger of {name}", "\n".join(rows(home / "ledger.db", leave_out="meta")).encode()))
            found += [(f"secrets of {name}", state.to_bytes()) for (holder, *_), state in self.secrets.items() if holder == name]
        return found

    def coordinator_files(self) -> list[Path]:
        runs = sorted(path for path in (self.federation.directory / "runs").rglob("*") if path.is_file())
        return runs + sorted(self.federation.directory.glob("registry.db*"))

    def _listen(self, name: str, message_type: str, request: Parcel, reply: Parcel) -> None:
        one = Seen(name, message_type, request, reply)
        self.seen.append(one)
        if message_type.startswith("query.epoch") and not one.refused:
            self._note_secrets(name, one.asked.run, one.asked.attempt)
        if message_type.endswith(".sum") and not one.refused:
            with suppress(Refusal):  # a twin that copied a state's hash has no vector under it
                self._note_input(self.federation.nodes[name], one.manifest)

    def _note_input(self, node: Node, asked: SumManifest) -> None:
        """As the epoch of the manifest adds it up."""
        vectors, members = node.ledger.vectors, self.epochs()[asked.epoch_hash].n
        stored = vectors.kept(asked.run, asked.round, asked.sum, asked.state_hash)
        if stored is None:
            return
        session = open_session(node, asked.run)
        planned = next(one for one in planned_sums(session.plan) if (one.round, one.kind) == (asked.round, asked.sum))
        made_for = vectors.members(asked.run, asked.round, asked.sum)
        lanes = session.terms.lanes(session.state, planned)
        self.inputs[node.name, asked.hash] = np.array(rescaled(stored.view("<u4"), lanes, made_for, members))

    def _note_secrets(self, name: str, run: str, epoch: int) -> None:
        stored = self.federation.nodes[name].ledger.epoch(run, epoch)
        if stored is None or stored.stage not in SETUP:
            return
        state = SETUP[stored.stage].from_bytes(stored.state)
        self.secrets.setdefault((name, run, epoch, stored.stage), state)
        if name in self.colluders and isinstance(state, EpochState):
            self.held.setdefault((name, state.manifest.hash), state)


LEDGER = ("ledger.db", "ledger.db-wal", "ledger.db-shm")


def rows(database: Path, leave_out: str = "") -> Iterator[str]:
    """A database's content as SQL."""
    with closing(sqlite3.connect(database)) as connection:
        skipped = f'INSERT INTO "{leave_out}"'
        yield from (line for line in connection.iterdump() if not leave_out or not line.startswith(skipped))


def _envelope(parcel: Parcel) -> Envelope:
    return Envelope.from_bytes(unpack(parcel.envelope)["envelope"])
