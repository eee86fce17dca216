"""`roster.toml`, with and without the days of its entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.errors import SettingsError
from client.institution import Membership, read_membership, write_membership
from protocols.errors import RosterError
from protocols.roster import Roster, RosterEntry

ENTRIES = (
    RosterEntry("ada", b"a" * 32),
    RosterEntry("bio", b"b" * 32, "2030-01-31", "2031-01-31"),
    RosterEntry("cor", b"c" * 32, "", "2031-01-31"),
)
MEMBERSHIP = Membership("ada", Roster(ENTRIES), b"o" * 32)


def test_a_written_roster_is_read_back(tmp_path: Path) -> None:
    write_membership(tmp_path, MEMBERSHIP)
    assert read_membership(tmp_path) == MEMBERSHIP


def test_an_entry_without_days_is_written_and_read_without_them(tmp_path: Path) -> None:
    membership = Membership("ada", Roster(ENTRIES[:1]), b"o" * 32)
    write_membership(tmp_path, membership)
    assert "valid" not in (tmp_path / "roster.toml").read_text()
    assert read_membership(tmp_path) == membership


def test_days_may_be_written_as_dates_of_toml(tmp_path: Path) -> None:
    write_membership(tmp_path, MEMBERSHIP)
    path = tmp_path / "roster.toml"
    path.write_text(path.read_text().replace('"2031-01-31"', "2031-01-31"))
    assert read_membership(tmp_path) == MEMBERSHIP


@pytest.mark.parametrize(("day", "error"), [('"soon"', RosterError), ("2030-01-31T10:00:00", RosterError), ("[", SettingsError)])
def test_a_day_that_is_none_is_refused(tmp_path: Path, day: str, error: type[Exception]) -> None:
    write_membership(tmp_path, MEMBERSHIP)
    path = tmp_path / "roster.toml"
    path.write_text(path.read_text().replace('"2030-01-31"', day))
    with pytest.raises(error, match="roster"):
        read_membership(tmp_path)
