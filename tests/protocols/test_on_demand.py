"""Values made when they are asked for."""

from __future__ import annotations

import pytest

from protocols.on_demand import OnDemand


def test_a_value_is_made_each_time_it_is_asked_for_and_no_other() -> None:
    made: list[str] = []

    def make(name: str) -> int:
        made.append(name)
        return len(made)

    values = OnDemand(["b", "a"], make)
    assert list(values) == ["b", "a"] and len(values) == 2 and "a" in values and not made
    assert (values["a"], values["a"], made) == (1, 2, ["a", "a"])
    with pytest.raises(KeyError):
        values["c"]


def test_of_two_the_later_one_counts() -> None:
    both = OnDemand("ab", str.upper) | {"b": "own", "c": "own"}
    assert dict(both) == {"a": "A", "b": "own", "c": "own"}
