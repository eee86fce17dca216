"""A roster says from when until when an institution is one, and somebody's own date decides."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import RosterError
from protocols.roster import Roster, RosterEntry

TODAY = date(2030, 1, 31)


def roster(valid_from: str = "", valid_until: str = "") -> Roster:
    return Roster((RosterEntry("ada", b"a" * 32, valid_from, valid_until), RosterEntry("bio", b"b" * 32)))


@pytest.mark.parametrize(
    "span", [("", ""), ("2030-01-31", ""), ("", "2030-01-31"), ("2030-01-31", "2030-01-31"), ("2029-12-01", "2030-02-01")]
)
def test_first_and_last_day_are_days_of_an_entry(span: tuple[str, str]) -> None:
    roster(*span).check_valid(["ada", "bio"], TODAY)


@pytest.mark.parametrize(
    ("span", "sentence"),
    [
        (("2030-02-01", ""), "ada is on the roster from 2030-02-01 until further notice and today is 2030-01-31; leave it out"),
        (("", "2030-01-30"), "ada is on the roster from the beginning until 2030-01-30 and today is 2030-01-31"),
    ],
)
def test_an_entry_outside_its_days_is_named(span: tuple[str, str], sentence: str) -> None:
    roster(*span).check_valid(["bio"], TODAY)
    with pytest.raises(RosterError, match=sentence):
        roster(*span).check_valid(["ada", "bio"], TODAY)


def test_who_is_not_on_the_roster_is_valid_on_no_day() -> None:
    with pytest.raises(RosterError, match="zoo is not on this roster"):
        roster().check_valid(["zoo"], TODAY)


@given(st.dates(), st.dates(), st.dates())
def test_an_entry_is_valid_exactly_between_its_days(first: date, last: date, today: date) -> None:
    if last < first:
        with pytest.raises(RosterError, match="before it begins"):
            roster(first.isoformat(), last.isoformat())
        return
    try:
        roster(first.isoformat(), last.isoformat()).check_valid(["ada"], today)
    except RosterError:
        assert not first <= today <= last
    else:
        assert first <= today <= last


@pytest.mark.parametrize("day", ["20300131", "2030-1-31", "2030-02-30", "tomorrow", "2030-W05-4"])
def test_what_is_no_date_in_the_one_form_is_refused(day: str) -> None:
    for span in ((day, ""), ("", day)):
        with pytest.raises(RosterError, match=f"the roster says {day} of ada"):
            roster(*span)


def test_an_epoch_is_bound_to_names_and_keys_of_its_members_alone() -> None:
    assert roster("2030-01-31").hash_of(["ada", "bio"]) == roster().hash_of(["bio", "ada"]), "days are for each institution to check"
    rekeyed = Roster((RosterEntry("ada", b"a" * 32), RosterEntry("bio", b"c" * 32)))
    assert rekeyed.hash_of(["ada"]) == roster().hash_of(["ada"])
    assert rekeyed.hash_of(["ada", "bio"]) != roster().hash_of(["ada", "bio"])
    with pytest.raises(RosterError, match="zoo is not on this roster"):
        roster().hash_of(["ada", "zoo"])
