"""What cannot be used is found before anything is written, and named as the user has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from client.records import read_records
from consortium import simulate
from consortium.errors import SimulationError
from consortium.preparation import prepare
from consortium.workplace import open_workplace
from model.errors import ModelError
from protocols.errors import ConsortiumError, PlanError
from protocols.plan import load_plan
from tests.consortium.small_plan import TEMPLATES, small_records, write_small

BITS, EXACT, GIVEN = 'metric = "bits_per_byte"', 'metric = "exact_match"', 'choices = [" red", " green", " blue"]'


def _rows(line: int, **changes: Any) -> list[dict[str, Any]]:
    """The small records with one line changed; a value of None takes the field out."""
    rows = small_records()
    rows[line - 1] = {field: value for field, value in (rows[line - 1] | changes).items() if value is not None}
    return rows


BAD_RECORDS: dict[str, tuple[list[dict[str, Any]] | None, dict[str, Any], str]] = {
    "too long": (_rows(6, note="word " * 400), {}, "records.jsonl, line 6: the record has"),
    "too long in a test record": (_rows(9, note="word " * 400), {}, "records.jsonl, line 9: the record has"),
    "no field in a test record": (_rows(1, code=None), {}, "records.jsonl, line 1: field code is missing"),
    "no field, bits_per_byte": (_rows(3, note=None), {"evaluation": BITS}, "records.jsonl, line 3: field note is missing"),
    "no field, exact_match": (_rows(3, note=None), {"evaluation": EXACT}, "records.jsonl, line 3: field note is missing"),
    "no field, given choices": (_rows(3, note=None), {"evaluation": GIVEN}, "records.jsonl, line 3: field note is missing"),
    "choices of no record": (_rows(1), {"evaluation": 'choices = ["red", "green"]'}, "no record's target is among evaluation.choices"),
    "empty target": (_rows(4, code=""), {"records": TEMPLATES.replace(" {code}", "{code}")}, "line 4: the record's target is empty"),
    "half a character": (_rows(4, note="\ud800"), {}, "line 4: field note holds half a surrogate pair"),
    "more than a field": (None, {"records": TEMPLATES.replace("{note}", "{note.text}")}, r"records.prompt asks for \{note.text\}"),
    "all dropped": (None, {"records": f'{TEMPLATES}\nmax_tokens = 2\ntoo_long = "drop"'}, "institution north: every training record"),
    "a choice twice": (None, {"evaluation": 'choices = [" red", " red"]'}, "holds the same choice twice"),
    "colluding": (None, {"more": "[secure_aggregation]\ncolluding = 2"}, "colluding is 2 and 3 institutions carry at most 1"),
    "batches": (None, {"more": "[participation]\nbatches = 2"}, "of 3 institutions the smallest of 2 batches has 1 and a round needs 3"),
    "quorum": (None, {"more": "[participation]\nquorum = 4"}, "institutions is 3 and a round needs 4"),
}


@pytest.mark.parametrize("case", BAD_RECORDS)
def test_what_cannot_be_used_is_named_and_leaves_nothing_behind(tmp_path: Path, case: str) -> None:
    rows, changes, sentence = BAD_RECORDS[case]
    plan = write_small(tmp_path, rows, **changes)
    with pytest.raises(ConsortiumError, match=sentence) as caught:
        simulate(plan, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"plan.toml", "records.jsonl"}


def test_an_unknown_target_leaves_nothing_behind(tmp_path: Path) -> None:
    plan = write_small(tmp_path)
    plan.write_text(plan.read_text().replace('targets = ["attention"]', 'targets = ["atention"]'))
    with pytest.raises(ModelError, match='"atention" names nothing'):
        simulate(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("changes", "field"), [({"rounds": 0}, "rounds"), ({"seed": -1}, "seed")])
def test_arguments_are_checked_as_a_plan_is(tmp_path: Path, changes: dict[str, int], field: str) -> None:
    plan = load_plan(write_small(tmp_path))
    (tmp_path / "records.jsonl").unlink()  # they are refused before a record is read
    with pytest.raises(PlanError, match=f"arguments of simulate: {field}: "):
        simulate(plan, tmp_path / "out", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "sentence"), [("gpu", "device 'gpu' is none that is known"), ("cuda:99", "there is no cuda:99 on this machine")]
)
def test_a_device_that_is_not_there_leaves_nothing_behind(tmp_path: Path, device: str, sentence: str) -> None:
    with pytest.raises(SimulationError, match=sentence):
        simulate(write_small(tmp_path), tmp_path / "out", device=device)
    assert not (tmp_path / "out").exists()


def test_an_institution_reads_in_its_copy_what_was_prepared(tmp_path: Path) -> None:
    import datetime

    day = datetime.date(2024, 5, 1)
    rows = [row | {"day": day, "note": f"{row['note']} ünï"} for row in small_records()]
    plan = load_plan(write_small(tmp_path, [], records=TEMPLATES.replace("{note}", "{day} {note}")))
    assert plan.simulation is not None
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "records.parquet")
    plan = plan.model_copy(update={"simulation": plan.simulation.model_copy(update={"source": "records.parquet"})})
    prepared = prepare(plan, tmp_path)
    place = open_workplace(prepared, tmp_path / "out", overwrite=False)
    for name in ("north", "south", "west"):
        read = read_records(place.settings(name).records, place.plan)
        assert [record.values["day"] for record in read.train] == ["2024-05-01"] * 6
        assert [f" {record.values['code']}" for record in read.train] == [e.target for e in prepared.datasets[name].train.examples]


def test_half_a_character_in_a_field_that_the_plan_does_not_read_is_kept(tmp_path: Path) -> None:
    prepared = prepare(load_plan(write_small(tmp_path, _rows(2, remark="\udc00"))), tmp_path)
    assert json.loads(prepared.copies["north"].splitlines()[1])["remark"] == "\udc00"
