"""What the terminal shows while a simulation runs."""

from __future__ import annotations

import io

from rich.console import Console

from consortium.baseline_process import BaselineProgress
from consortium.progress import LiveProgress
from coordinator.events import RoundFinished, RunFinished, RunStarted


def _shown(*events: RunStarted | RoundFinished | RunFinished | BaselineProgress) -> str:
    text = io.StringIO()
    with LiveProgress(Console(file=text, width=120)) as progress:
        for event in events:
            progress(event)
    assert progress.seen_anything == bool(events)
    return text.getvalue()


def test_nothing_is_shown_before_the_first_event() -> None:
    assert _shown() == ""


def test_a_round_is_one_line_and_the_end_says_no_stage() -> None:
    text = _shown(RunStarted("run", 1, None), RoundFinished(1, 3, ("meadow",), 0.5, 0.25, 2.0, 3_000_000, 4_000_000), RunFinished("run"))
    assert "round 1: 3 institutions  loss 0.500  metric 0.250  3.0 MB up, 4.0 MB down  2.0 s  missing: meadow" in text
    assert "federation" in text.splitlines()[-1]
    assert "going on" not in text


def test_a_run_that_goes_on_says_after_which_round() -> None:
    assert "going on after round 3" in _shown(RunStarted("run", 8, 3))


def test_baselines_have_a_line_each() -> None:
    text = _shown(BaselineProgress("meadow", 1, 2), BaselineProgress("pooled", 1, 2))
    assert "meadow alone" in text
    assert "pooled" in text
