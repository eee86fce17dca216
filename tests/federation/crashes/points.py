"""Places where a process may die: before each commit, before each rename, within each part of an upload, and with each answer on its way.

What stands after one of them is what stands before the next. A kill runs no clean-up, so a second life starts from a copy of the disk
as it was at that very place, with what was half written and with half of what no fsync had made last.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import client.ledger_file
import protocols.files
from coordinator.registry.registry import Registry
from coordinator.registry.transactions import Change
from coordinator.spool import Spool
from tests.federation.federation import Crash

COORDINATOR = "coordinator"


@dataclass
class Points:
    """Counts the points that some parties reach below a directory, and ends a life at the one numbered `at` (from 1; 0 for none)."""

    directory: Path
    at: int = 0
    where: str = ""  # a regular expression: the life ends at the first point that it fits
    parties: tuple[str, ...] = ()  # whose points count; none for everyone's
    alone: bool = False  # only the party at work dies, not everything
    names: list[str] = field(default_factory=list)
    party: str = COORDINATOR
    doing: str = ""  # message type that the party is at
    commits: int = 0  # at that message
    connections: list[sqlite3.Connection] = field(default_factory=list)

    @contextmanager
    def of(self, party: str, doing: str = "") -> Iterator[None]:
        """What is reached inside is reached by another party."""
        before = self.party, self.doing
        self.party, self.doing, self.commits = party, doing, 0
        try:
            yield
        finally:
            self.party, self.doing = before

    def reach(self, what: str, tear: Callable[[], object] = lambda: None) -> None:
        """Raises Crash at the point where this life ends, after `tear` left what a kill leaves half done."""
        if self.parties and self.party not in self.parties:
            return
        self.names.append(f"{self.party}: {self.doing} {_stable(what)}")
        if len(self.names) == self.at or (self.where and re.search(self.where, self.names[-1])):
            self.at, self.where = 0, ""
            tear()
            shutil.copytree(self.lost, self.disk)
            _lose_unsynced(self.disk)
            raise Crash(self.names[-1])

    @property
    def lost(self) -> Path:
        """What dies with the party that is at work: its own folder, or everything."""
        return self.directory / "institutions" / self.party if self.alone else self.directory

    @property
    def disk(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}-left")

    def restore(self) -> None:
        """The next life finds what was on disk when the last one was killed, if it was; connections are closed by then."""
        if self.disk.exists():
            shutil.rmtree(self.lost)
            self.disk.rename(self.lost)

    def close(self) -> None:
        """Ends all connections, uncommitted."""
        while self.connections:
            self.connections.pop().close()


def watch(points: Points, patch: pytest.MonkeyPatch) -> None:
    """Puts points into the product's own ways to the disk."""
    for install in (_watch_files, _watch_spools, _watch_ledgers, _watch_registry):
        install(points, patch)


def _watch_files(points: Points, patch: pytest.MonkeyPatch) -> None:
    replace = protocols.files._replace

    def watched(path: Path, pieces: Iterable[bytes | memoryview], mode: int) -> None:
        data = b"".join(pieces)

        def tear() -> None:
            (path.parent / f".{path.name}.k1ll3d").write_bytes(data[: len(data) // 2])

        name = path.relative_to(points.directory)
        points.reach(f"{name} before its rename", tear)
        replace(path, (data,), mode)

    patch.setattr(protocols.files, "_replace", watched)


def _watch_spools(points: Points, patch: pytest.MonkeyPatch) -> None:
    append = Spool.append

    def appended(spool: Spool, data: memoryview) -> None:
        def tear() -> None:
            with (spool.folder / "spool").open("ab") as file:
                file.write(data[: len(data) // 2])

        points.reach(f"{spool.folder.relative_to(points.directory)} within part {spool.parts}", tear)
        append(spool, data)

    patch.setattr(Spool, "append", appended)


def _watch_ledgers(points: Points, patch: pytest.MonkeyPatch) -> None:
    class Watched(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement == "COMMIT" or "wal_checkpoint" in statement:
                points.commits += 1
                points.reach(f"before {statement}, number {points.commits}")
            return super().execute(statement, *values)

    def connect(*place: Any, **options: Any) -> sqlite3.Connection:
        points.connections.append(sqlite3.connect(*place, **options, factory=Watched))
        return points.connections[-1]

    driver = SimpleNamespace(connect=connect, DatabaseError=sqlite3.DatabaseError)
    patch.setattr(client.ledger_file, "sqlite3", driver)


def _watch_registry(points: Points, patch: pytest.MonkeyPatch) -> None:
    writing = Registry.write

    def watched(registry: Registry, change: Callable[[Change], Any]) -> Any:
        def whole(transaction: Change) -> Any:
            result = change(transaction)
            points.reach("before the registry's commit")
            return result

        return writing(registry, whole)

    patch.setattr(Registry, "write", watched)


def _lose_unsynced(disk: Path) -> None:
    for folder in disk.glob("runs/*/sums/*/uploads/*"):
        if not (folder / "leaves").exists() and (folder / "spool").exists():
            path = folder / "spool"
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _stable(name: str) -> str:
    """Without the random end of a run's id, and hashes short."""
    return re.sub(r"triage-[0-9a-f]{8}/", "", re.sub(r"([0-9a-f]{6})[0-9a-f]{26,58}", r"\1", name))
