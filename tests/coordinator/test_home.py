"""A coordinator's folder for one plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.home import write_home
from protocols.roster import Roster
from tests.federation.federation import CONFIG, make_plan


@pytest.mark.parametrize("name", ["config.json", "roster.json"])
def test_the_plan_comes_last_because_it_says_that_the_folder_is_complete(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()  # so that this file cannot be written
    with pytest.raises(IsADirectoryError, match=name):
        write_home(tmp_path, make_plan(), CONFIG, Roster(()))
    assert not (tmp_path / "plan.json").exists()
