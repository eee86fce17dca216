"""A first plan for ordinary files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consortium.errors import SimulationError
from consortium.new_plan import write_plan
from protocols.plan import Plan, load_plan


def planned(folder: Path, content: str, name: str = "mine.csv") -> Plan:
    (folder / name).write_text(content, encoding="utf-8")
    return load_plan(write_plan("triage", folder / name, folder))


@pytest.mark.parametrize("separator", [",", ";"])
def test_columns_with_spaces_are_fields_whatever_separates_them(tmp_path: Path, separator: str) -> None:
    lines = [("Patient Note", "ICD Code"), ("a cough, and a fever", "R05"), ("rash", "R21"), ("a cough", "R05"), ("fever", "R21")]
    plan = planned(tmp_path, "".join(f'"{note}"{separator}{code}\n' for note, code in lines))
    assert (plan.records.prompt, plan.records.target) == ("{Patient Note}\nICD Code:", " {ICD Code}")


def test_an_empty_text_cell_disqualifies_nothing(tmp_path: Path) -> None:
    plan = planned(tmp_path, "note,code\nfever,A\n,B\nrash,A\ncough,B\n")
    assert (plan.records.prompt, plan.evaluation.metric) == ("{note}\ncode:", "accuracy")


def test_zero_and_false_are_answers(tmp_path: Path) -> None:
    rows = [{"note": f"note {number}", "code": number % 2} for number in range(8)]
    assert planned(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "mine.jsonl").records.target == " {code}"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("note,code\nfever,A\nrash,\ncough,A\n", r"line 3: field code, taken for the answer, is empty"),
        ("note,code,site\na,A,x\nb,A,y\nc,A,z\nd,A, \n", r"line 5: field site, taken for whose record it is, is empty"),
        ("note,code\nfever,\nrash,\n", "two fields that most records fill are needed, a text and its answer; add them"),
        ("note (free),code\nfever,A\n", r"rename 'note \(free\)', because a plan's fields hold no brackets"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    with pytest.raises(SimulationError, match=sentence):
        planned(tmp_path, content)
    assert not (tmp_path / "triage.toml").exists()
