"""`--json`: standard output is the report and nothing else, and programs find in it what they were promised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.consortium.command_line import consortium
from tests.consortium.small_notes import write_plan

pytestmark = pytest.mark.slow
ANY_NAME = "NAME"  # stands for every key of its mapping
PROMISED: dict[str, Any] = {
    "schema": 1,
    "plan": {"name": "", "sha256": ""},
    "seed": 0,
    "base_sha256": "",
    "metric": "",
    "higher_is_better": True,
    "test_records": 0,
    "base": 0.0,
    "local_only": {"mean": 0.0, "best": 0.0, "institutions": {ANY_NAME: {"union": 0.0, "own": 0.0}}},
    "federated": 0.0,
    "federated_own": {ANY_NAME: 0.0},
    "personalised": None,
    "pooled": 0.0,
    "rounds": [
        {"round": 1, "institutions": 5, "missing": [], "loss": 0.0, "metric": 0.0, "seconds": 0.0, "bytes_up": 0, "bytes_down": 0},
    ],
    "experts": {"selected": {}, "excluded": 0},
    "mtp": {"acceptance_before": None, "acceptance_after": None},
    "privacy": None,
    "secure_aggregation": {"threshold": 4, "colluding": 1},
    "model": "path",
}


def _faults(found: Any, promised: Any, place: str) -> Iterator[str]:
    """Where the document lacks a key, or has something of another kind than was promised."""
    kind = (int, float) if isinstance(promised, float) else type(promised)
    if promised is not None and not isinstance(found, kind):
        yield f"{place} is {found!r}"
    elif isinstance(promised, dict):
        for name in found if ANY_NAME in promised else promised:
            yield from _faults(found.get(name, "absent"), promised.get(name, promised.get(ANY_NAME)), f"{place}.{name}")
    elif promised is None and found == "absent":
        yield f"{place} is absent"
    elif promised and isinstance(promised, list):
        for number, one in enumerate(found):
            yield from _faults(one, promised[0], f"{place}[{number}]")


def test_simulate_prints_the_promised_document_and_nothing_else(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, ("rounds = 2", "rounds = 1"))
    done = consortium(tmp_path, "simulate", str(plan), "--out", "out", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(_faults(document, PROMISED, "report")) == []
    assert document["rounds"] and document["federated_own"].keys() == document["local_only"]["institutions"].keys()
    assert Path(tmp_path, document["model"], "manifest.json").exists()


def test_demo_prints_its_report_and_nothing_else(tmp_path: Path) -> None:
    done = consortium(tmp_path, "demo", "--rounds", "1", "--no-baselines", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "consortium-demo" / "run" / "report.json").read_text())
