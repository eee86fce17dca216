"""Hours of a day, over midnight too."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.hours import Hours

DAY = datetime(2030, 1, 1, tzinfo=UTC)
MINUTES = st.integers(0, 24 * 60 - 1)


def at(minute: int) -> datetime:
    return DAY + timedelta(minutes=minute)


@given(MINUTES, MINUTES, MINUTES)
def test_a_span_and_its_reverse_divide_the_day(first: int, second: int, now: int) -> None:
    if first == second:
        return
    there, back = Hours(at(first).time(), at(second).time()), Hours(at(second).time(), at(first).time())
    assert there.cover(at(now)) != back.cover(at(now))


@given(MINUTES, st.integers(1, 24 * 60 - 1), st.integers(0, 24 * 60 - 1))
def test_a_moment_is_covered_while_less_time_than_the_span_has_passed(start: int, length: int, passed: int) -> None:
    hours = Hours(at(start).time(), at(start + length).time())
    assert hours.cover(at(start + passed)) == (passed < length)


@given(MINUTES, st.integers(1, 24 * 60 - 1))
def test_what_is_written_is_read_back(start: int, length: int) -> None:
    first, last = at(start).time(), at(start + length).time()
    assert Hours.parse(f"{first:%H:%M}-{last:%H:%M}") == Hours(first, last)


def test_the_night_has_midnight_in_it_and_not_its_end() -> None:
    night = Hours.parse("22:00-06:00")
    assert str(night) == "22:00 to 06:00"
    assert [night.cover(datetime.combine(DAY, time(*hm))) for hm in ((21, 59), (22, 0), (0, 0), (5, 59), (6, 0))] == [
        False, True, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "22:00", "22:00-24:00", "6:00-7:00", "22:00 - 06:00", "06:00-06:00"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="leave it empty"):
        Hours.parse(text)
