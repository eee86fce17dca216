"""A plan before its run: what is filled in, and what only the operator can say."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.given_plan import complete_plan, read_given_plan
from protocols.errors import PlanError
from tests.client.small_institution import small_plan


def test_the_base_s_hash_is_filled_in_with_a_note() -> None:
    given = complete_plan(small_plan(), "a" * 64)
    assert given.plan.base.sha256 == "a" * 64 and "names no base.sha256" in given.notes[0]
    assert complete_plan(given.plan, "a" * 64).notes == ()


def test_what_cannot_be_filled_in_is_named() -> None:
    with pytest.raises(PlanError, match=r"lacks evaluation\.choices; ask the operator"):
        complete_plan(small_plan(evaluation={}), "a" * 64)
    with pytest.raises(PlanError, match=r"SHA-256 bbbbbbbbbbbb… and the checkpoint here has aaaaaaaaaaaa…"):
        complete_plan(small_plan(base={"name": "tiny", "sha256": "b" * 64}), "a" * 64)


def test_the_plan_of_a_run_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(small_plan().canonical())
    assert read_given_plan(tmp_path / "plan.json") == small_plan()
    with pytest.raises(PlanError, match="no readable plan"):
        read_given_plan(tmp_path / "none.json")
