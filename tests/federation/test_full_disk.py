"""A full disk ends the coordinator's process, at whatever file, and not the run: with room again it goes on, with the same bits."""

from __future__ import annotations

import errno
from collections.abc import Iterator
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

    def replacing(path: Path, data: bytes | memoryview, mode: int) -> None:
        if "runs" in path.parts:
            take(path, data)
        replace(path, data, mode)

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
