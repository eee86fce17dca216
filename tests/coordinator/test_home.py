"""A coordinator's folder for one plan."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordinator.errors import SettingsError
from coordinator.home import open_home, operator_identity, write_home
from protocols.roster import Roster, RosterEntry
from tests.federation.federation import CONFIG, make_plan


@pytest.mark.parametrize("name", ["config.json", "roster.json"])
def test_the_plan_comes_last_because_it_says_that_the_folder_is_complete(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()  # so that this file cannot be written
    with pytest.raises(IsADirectoryError, match=name):
        write_home(tmp_path, make_plan(), CONFIG, Roster(()))
    assert not (tmp_path / "plan.json").exists()


def test_the_roster_is_read_back_with_its_days(tmp_path: Path) -> None:
    roster = Roster((RosterEntry("ada", b"a" * 32), RosterEntry("bio", b"b" * 32, "2030-01-31", "2031-01-31")))
    write_home(tmp_path, make_plan(), CONFIG, roster)
    operator_identity(tmp_path, os.urandom)
    assert open_home(tmp_path).roster == roster
    (tmp_path / "roster.json").write_text('{"ada": {"public_key": "00"}}')
    with pytest.raises(SettingsError, match="holds no prepared plan"):
        open_home(tmp_path)
