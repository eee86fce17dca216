"""A run moves as its contract says, and no other way."""

import pytest

from coordinator.errors import IllegalTransition
from coordinator.registry.states import NEXT, RunState, check_transition


@pytest.mark.parametrize("before", RunState)
@pytest.mark.parametrize("after", RunState)
def test_transitions_are_those_of_the_contract(before: RunState, after: RunState) -> None:
    order = ["submitted", "accepting", "running", "paused", "finished", "failed", "stopped"]
    legal = {("submitted", "accepting"), ("accepting", "running"), ("running", "paused"), ("paused", "running"), ("running", "finished")}
    legal |= {(state, end) for state in order[:4] for end in ("failed", "stopped")}
    assert (after in NEXT[before]) == ((before.value, after.value) in legal)
    if after not in NEXT[before]:
        with pytest.raises(IllegalTransition):
            check_transition("r", before, after)
