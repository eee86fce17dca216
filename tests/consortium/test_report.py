"""The report's document, how it is read again, and how it is shown."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from consortium.errors import SimulationError
from consortium.picture import draw
from consortium.report import Baselines, Figures, Outcome, RecordCounts, Report, make_report, read_report
from consortium.summary import print_summary
from coordinator.registry.records import Contribution, Round
from protocols.plan import load_plan
from tests.consortium.small_plan import write_small


def _round(number: int, missing: str | None = None) -> Round:
    parts = tuple(Contribution(name, 1, 1, "update sum" if name == missing else None) for name in ("north", "south", "west"))
    return Round(number, "00", {}, parts, 1.0, 2.0, 3.5, None, datetime.now(UTC))


def _report(folder: Path, missing: str | None = None) -> Report:
    plan = load_plan(write_small(folder, evaluation='metric = "bits_per_byte"'))
    records = {"north": RecordCounts(6, 2, 0, 0), "south": RecordCounts(5, 2, 3, 1), "west": RecordCounts(6, 1, 0, 4)}
    outcome = Outcome((_round(0), _round(1, missing)), {}, records, 3, dict.fromkeys(records, 3.0), None)
    return make_report(plan, outcome, Baselines(), folder / "report.json")


def test_test_records_are_records_whatever_the_metric_counts(tmp_path: Path) -> None:
    assert _report(tmp_path)["test_records"] == 5
    assert _report(tmp_path, missing="west")["test_records"] == 4


def test_records_of_every_institution_are_in_document_and_summary(tmp_path: Path) -> None:
    report, written = _report(tmp_path), io.StringIO()
    assert json.loads(report.path.read_text())["records"]["south"] == {"train": 5, "test": 2, "truncated": 3, "dropped": 1}
    print_summary(report, Console(file=written, width=120))
    line = "Records for training + test: north 6 + 2, south 5 + 2 (3 truncated, 1 dropped), west 6 + 1 (4 dropped)\n"
    assert line in written.getvalue()
    assert "bits_per_byte on 5 test records (lower is better)" in written.getvalue()


def test_experts_that_a_round_could_not_move_are_counted_over_all_rounds(tmp_path: Path) -> None:
    plan, selected = load_plan(write_small(tmp_path)), {1: (0, 3), 2: (5,)}
    kept = (selected, {1: (3,), 2: ()}, {1: (0, 3), 2: ()})  # round 0 chooses
    rounds = tuple(replace(_round(number), experts=experts) for number, experts in enumerate(kept))
    outcome = Outcome(rounds, selected, {}, 3, {}, None)
    experts = make_report(plan, outcome, Baselines(), tmp_path / "report.json")["experts"]
    assert experts == {"selected": {"1": [0, 3], "2": [5]}, "excluded": 2 + 1}
    rounds = tuple(replace(one, experts=None) for one in rounds)  # without experts there is no count
    document = make_report(plan, replace(outcome, rounds=rounds, experts={}), Baselines(), tmp_path / "report.json")
    assert document["experts"]["excluded"] == 0


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = _report(tmp_path)
    assert read_report(report.path) == report
    assert read_report(tmp_path / "absent.json") is None


def test_own_models_are_in_document_summary_and_picture(tmp_path: Path) -> None:
    plan = load_plan(write_small(tmp_path))
    records = dict.fromkeys(("north", "south"), RecordCounts(6, 2, 0, 0))
    rounds = tuple(replace(_round(number), metric=0.5) for number in (0, 1))
    outcome = Outcome(rounds, {}, records, 3, dict.fromkeys(records, 0.5), None, {"north": 0.75, "south": 1.0})
    alone = Baselines({name: Figures(0.25, 0.625) for name in records})
    report, written = make_report(plan, outcome, alone, tmp_path / "report.json"), io.StringIO()
    assert report["personalised"] == {"mean": 0.875, "institutions": {"north": 0.75, "south": 1.0}, "in_federated": False}
    print_summary(report, Console(file=written, width=120))
    assert "Own models on own test records: north 0.750 (alone 0.625), south 1.000 (alone 0.625)\n" in written.getvalue()
    draw(report, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


@pytest.mark.parametrize("content", [b"", b'{"schema": 1', b"[]", b'{"schema": 1}', b"\xff"])
def test_a_damaged_report_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(SimulationError, match=r"report\.json is damaged; delete it"):
        read_report(tmp_path / "report.json")
