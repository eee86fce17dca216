"""A full disk ends the coordinator's process, at whatever file, and not the run: with room again it goes on, with the same bits."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

import protocols.files
from coordinator.errors import RegistryError
from coordinator.registry.states import RunState
from coordinator.spool import Spool
from tests.federation.federation import Federation, make_plan
from tests.federation.private_plans import SMALL

PLAN = make_plan(rounds=1, trainable=SMALL)


@contextmanager
def full_at(names: str) -> Iterator[None]:
    """The coordinator's disk takes half of the first file with such a name, and nothing afterwards."""
    replace, append, is_full = protocols.files._replace, Spool.append, False

    def take(path: Path, data: bytes | memoryview) -> None:
        nonlocal is_full
        is_full = is_full or path.match(names)
        if is_full:
            with path.open("ab") if path.name == "spool" else path.with_name(f".{path.name}.h4lf").open("wb") as file:
                file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    def replacing(path: Path, pieces: Iterable[bytes | memoryview], mode: int) -> None:
        if "runs" in path.parts:
            take(path, content := b"".join(pieces))
            pieces = (content,)
        replace(path, pieces, mode)

    def appending(spool: Spool, data: memoryview) -> None:
        take(spool.folder / "spool", data)
        append(spool, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols.files, "_replace", replacing)
        patch.setattr(Spool, "append", appending)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The final state's file."""
    made = Federation(tmp_path_factory.mktemp("undisturbed"), PLAN, seed=1)
    content = made.run().state_path.read_bytes()
    made.close()
    return content


@pytest.mark.slow
@pytest.mark.parametrize("names", ["manifest", "spool", "root", "proposal", "transcript", "*.safetensors", "journal.json"])
def test_run_goes_on_when_there_is_room(names: str, undisturbed: bytes, tmp_path: Path) -> None:
    made = Federation(tmp_path, PLAN, seed=1)
    with full_at(names), pytest.raises(OSError, match="No space left"):
        made.run()
    (run,) = made.registry.runs()
    assert not run.state.ended
    made.close()
    made = Federation(tmp_path, PLAN, seed=1)
    assert made.run().state_path.read_bytes() == undisturbed
    made.close()


def test_run_goes_on_when_the_registry_has_room(undisturbed: bytes, tmp_path: Path) -> None:
    made, room = Federation(tmp_path, PLAN, seed=1), [True]

    def limit(connection: Any, *_: object) -> None:
        pages = 10**6 if room[0] else connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(made.registry._engine, "checkout", limit)

    def fills(_: object) -> None:
        room[0] = False

    with pytest.raises(RegistryError, match="free space on the database's disk"):
        made.run(fills)
    (run,) = made.registry.runs()
    assert run.state is RunState.RUNNING
    made.registry.verify_chain()
    room[0] = True
    assert made.run().state_path.read_bytes() == undisturbed
    made.close()


@pytest.mark.parametrize("full", ["vector", "ledger", "promises"])
def test_institution_whose_disk_is_full_is_asked_again(full: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the first round its disk is full; what it is asked later finds room, and its ledger as it was."""
    made = Federation(tmp_path, make_plan(rounds=2, trainable=SMALL))
    database, asked = made.nodes["bea"].ledger._database, 0

    def fills(name: str, message_type: str) -> bool:
        nonlocal asked
        if name == "bea" and full == "ledger":
            asked += message_type == "train.sum"
            is_full = message_type == "train.sum" and asked == 1
            pages = database.execute("PRAGMA page_count").fetchone()[0] if is_full else 10**6
            database.execute(f"PRAGMA max_page_count = {pages}")
        return False

    made.fails = fills
    with full_institution({"vector": "1-update.u32", "promises": "promises"}.get(full, "")):
        result = made.run()
    missing = [(one.number, part.reason) for one in made.registry.rounds(result.run) for part in one.contributions if part.missing_from]
    assert [number for number, _ in missing] == [1] and "bea could not answer train.sum (StorageError)" in missing[0][1]
    assert "free space" in caplog.text and "Traceback" not in caplog.text
    assert made.nodes["bea"].ledger.position(result.run) == made.nodes["ada"].ledger.position(result.run)
    made.close()


@contextmanager
def full_institution(name: str) -> Iterator[None]:
    """The disk of bea has no room for the first file of this name in a round."""
    write, is_full = protocols.files._replace, bool(name)

    def replacing(path: Path, pieces: Iterable[bytes | memoryview], mode: int) -> None:
        nonlocal is_full
        if is_full and path.name == name and "bea" in path.parts and (path.parent / "states").exists() | (name != "promises"):
            is_full = False
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, pieces, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols.files, "_replace", replacing)
        yield
