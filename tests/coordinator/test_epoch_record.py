"""A certified epoch is read as it was, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coordinator.epoch_record import load_epoch
from coordinator.errors import JobError
from protocols.parties import Parties
from tests.federation.crashes.lives import PLAN
from tests.federation.federation import NAMES, Federation


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    made = Federation(tmp_path_factory.mktemp("federation"), PLAN)
    made.run()
    made.close()
    return made


def parties(federation: Federation) -> Parties:
    return Parties(federation.roster, federation.operator_identity.public_key)


@pytest.fixture
def folder(federation: Federation, tmp_path: Path) -> Path:
    """A copy of the epoch's files."""
    return shutil.copytree(next(federation.directory.glob("runs/*/epochs/00001")), tmp_path / "epoch")


def test_epoch_is_certified_again_from_its_files(federation: Federation, folder: Path) -> None:
    loaded = load_epoch(folder, parties(federation))
    assert loaded is not None and loaded[0].members == NAMES and loaded[1].epoch_hash == loaded[0].hash


def test_setup_that_was_not_finished_is_none(federation: Federation, folder: Path) -> None:
    (folder / "manifest").unlink()
    assert load_epoch(folder, parties(federation)) is None


@pytest.mark.parametrize("place", [10, -1])
@pytest.mark.parametrize("name", ["keys", "shares", "confirmations", "manifest"])
def test_altered_file_is_one_sentence(federation: Federation, folder: Path, name: str, place: int) -> None:
    data = bytearray((folder / name).read_bytes())
    data[place] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(JobError, match="are damaged"):
        load_epoch(folder, parties(federation))


@pytest.mark.parametrize("name", ["keys", "shares", "confirmations"])
def test_lost_file_is_one_sentence(federation: Federation, folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(JobError, match="are damaged"):
        load_epoch(folder, parties(federation))
