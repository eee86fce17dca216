"""The learning benchmark on a miniature set: rows, going on, refused rows; its tables and aims on figures made up here."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.learning.__main__ import save, saved_rows
from benchmarks.learning.estimate import Estimate
from benchmarks.learning.one_row import measure
from benchmarks.learning.reach import reach
from benchmarks.learning.row_plan import NeedsRow, plan_of_row
from benchmarks.learning.rows import Results, Row, best_rule, fingerprint, planned
from benchmarks.learning.runner import Runner, Terms
from benchmarks.learning.sets import FULL, SHORT, DataError, open_set, passages, topic
from benchmarks.learning.table import BEGIN, END, SetFigures, put_tables, standard_error, tables
from benchmarks.learning.variants import BASELINES, VARIANTS, Variant, changed
from protocols.errors import PlanError
from protocols.plan import Plan, load_plan
from tests.consortium.small_plan import write_small

PLANS = Path(__file__).parents[2] / "benchmarks" / "learning" / "plans"


@pytest.fixture
def small(tmp_path: Path) -> Plan:
    plan = load_plan(write_small(tmp_path, rounds=1))
    return changed(plan, {"simulation": {"source": str(tmp_path / "records.jsonl")}})


def figures(variant: str, seed: int, federated: float, **more: Any) -> dict[str, Any]:
    return {
        "set": "banking77", "variant": variant, "seed": seed, "metric": "accuracy", "test_records": 100, "base": 0.1,
        "federated": federated, "own": {"a": federated, "b": federated}, "personalised": None, "experts": {},
        "elements_up": 500_000, "bytes_up": 4_000_000, "bytes_down": 6_000_000, "steps": 8, "seconds": 3.0, "process_seconds": 5.0,
    } | more  # fmt: skip


def baselines(seed: int, alone: float, pooled: float) -> dict[str, Any]:
    values = {"a": alone, "b": alone}
    return {
        "set": "banking77", "variant": BASELINES, "seed": seed, "union": values, "own": values, "pooled": pooled, "process_seconds": 9.0,
    }  # fmt: skip


@pytest.mark.slow
def test_rows_are_measured_once_and_saved_with_the_command(small: Plan, tmp_path: Path) -> None:
    said: list[str] = []
    terms = Terms(tmp_path / "work", only=("banking77, default, seed 0",))
    out, other = tmp_path / "learning.json", Row("banking77", "ffa", 0)
    Results(tmp_path / "work" / "rows").write(other, plan_of_row(other, small, Results(tmp_path)), figures("ffa", 0, 0.5))
    for _ in range(2):
        on_row = partial(save, out=out, arguments=["--hours", "4"], date="2026-01-02")
        Runner(terms, {"banking77": small}, os.environ, said.append, on_row).run()
    assert len(said) == 1 and said[0].startswith("1 of 1 rows") and "banking77, default, seed 0: " in said[0]
    document = json.loads(out.read_text())
    assert document["command"] == "python -m benchmarks.learning --hours 4" and document["date"] == "2026-01-02"
    row, measured_before = document["rows"]
    assert measured_before["federated"] == 0.5
    assert row["steps"] == 1 and row["records_seen"] == 2 * 3 and row["bytes_up"] > 0 and set(row["own"]) == {"north", "south", "west"}
    assert not list((tmp_path / "work" / "runs").iterdir())


@pytest.mark.slow
def test_baselines_are_a_row(small: Plan, tmp_path: Path) -> None:
    Runner(Terms(tmp_path / "work", only=(f"banking77, {BASELINES}, seed 0",)), {"banking77": small}, os.environ, lambda _: None).run()
    [row] = Results(tmp_path / "work" / "rows").all()
    assert set(row["union"]) == set(row["own"]) == {"north", "south", "west"} and 0 <= row["pooled"] <= 1


@pytest.mark.slow
def test_of_a_tuned_row_every_institution_has_a_figure(small: Plan, tmp_path: Path) -> None:
    tuned = changed(small, {"personalisation": {"tune_steps": 1}})
    row = measure(Row("banking77", "tune-up", 0), tuned, tmp_path / "row")
    assert row["personalised"].keys() == row["own"].keys() == {"north", "south", "west"}


def test_a_row_of_another_plan_is_measured_again(small: Plan, tmp_path: Path) -> None:
    results, row = Results(tmp_path), Row("banking77", "default", 0)
    results.write(row, small, {"federated": 0.5})
    assert results.holds(row, small)
    assert not results.holds(row, changed(small, {"rounds": 2}))
    assert fingerprint(changed(small, {"simulation": {"source": "elsewhere.jsonl"}})) == fingerprint(small)


def test_saved_rows_are_neither_measured_again_nor_lost(small: Plan, tmp_path: Path) -> None:
    """Those of the present plans; of a row that was measured here too, the one that holds."""
    default, fedavg, ffa = (Row("banking77", name, 0) for name in ("default", "fedavg", "ffa"))
    before, out = Results(tmp_path / "before"), tmp_path / "learning.json"
    for row in (default, fedavg, ffa):
        before.write(row, plan_of_row(row, small, before), {"federated": 0.5})
    save(before.all(), out, [], "2026-01-02")
    runner = Runner(Terms(tmp_path / "work"), {"banking77": small}, os.environ, lambda _: None)
    runner.results.write(default, small, {"federated": 0.7})
    runner.results.write(fedavg, changed(small, {"rounds": 2}), {"federated": 0.8})  # of another plan
    runner.adopt(saved_rows(out))
    assert [row["federated"] for row in runner.finished()] == [0.7, 0.5, 0.5]
    assert not {default, fedavg, ffa} & set(runner.open_rows())


@pytest.mark.parametrize("content", ["<<<<<<<", "[]", '{"rows": [1]}'])
def test_a_damaged_file_of_figures_is_named(tmp_path: Path, content: str) -> None:
    assert saved_rows(tmp_path / "none.json") == []
    (tmp_path / "learning.json").write_text(content)
    with pytest.raises(DataError, match="learning.json is no file of figures that this program wrote; restore it"):
        saved_rows(tmp_path / "learning.json")


def test_a_refused_row_is_named_and_the_others_go_on(small: Plan, tmp_path: Path) -> None:
    said: list[str] = []
    refused = changed(small, {"aggregation": {"rebalance_every": 1}})  # which only the default's rule has
    runner = Runner(Terms(tmp_path / "work", only=("banking77,", "seed 0"), hours=0.0), {"banking77": refused}, os.environ, said.append)
    runner.run()
    assert Row("banking77", "fedavg", 0) in runner.failed and 'rebalance_every needs rule = "alternating"' in said[0]
    assert Row("banking77", "no server momentum", 0) in runner.open_rows()


def test_no_row_is_started_that_would_end_too_late(small: Plan, tmp_path: Path) -> None:
    runner = Runner(Terms(tmp_path / "work", only=("default",), hours=0.01), {"banking77": small}, os.environ, lambda _: None)
    runner.run()
    assert len(runner.open_rows()) == 3 and not Results(tmp_path / "work" / "rows").all()


def test_lora_at_equal_bytes_waits_for_the_experts_and_matches_them(small: Plan, tmp_path: Path) -> None:
    results, row = Results(tmp_path), Row("banking77", "lora at the bytes of esft, full", 0)
    with pytest.raises(NeedsRow, match="experts: esft, full, seed 0"):
        plan_of_row(row, small, results)
    with_experts = plan_of_row(Row("banking77", "experts: esft, full", 0), small, results)
    results.write(Row("banking77", "experts: esft, full", 0), with_experts, {"experts": {"1": [2], "2": [0, 5]}})
    raised = plan_of_row(row, small, results).trainable
    assert raised.experts == "none" and raised.lora_rank > small.trainable.lora_rank
    assert raised.lora_alpha / raised.lora_rank == small.trainable.lora_alpha / small.trainable.lora_rank


def test_seed_0_of_everything_comes_first_and_the_best_rule_joins_the_short_sets() -> None:
    rows = list(planned([]))
    assert len(set(rows)) == len(rows) and [row.seed for row in rows] == sorted(row.seed for row in rows)
    assert {(row.data, row.variant) for row in rows if row.data in SHORT} == {
        (data, name) for data in SHORT for name in (BASELINES, "default", "fedavg")
    }
    known = [figures(rule, 0, value, set=data) for data in FULL for rule, value in (("ffa", 0.5), ("fedsvd", 0.7), ("fedsb", 0.6))]
    assert best_rule(known[:3]) is None
    known.append(figures("sketched", 0, 0.9))  # measured on one set alone
    assert best_rule(known) == "fedsvd" and Row("scan", "fedsvd", 0) in planned(known)


@pytest.mark.parametrize("name", [*FULL, *SHORT])
def test_every_variant_without_noise_is_a_plan(name: str) -> None:
    plan = load_plan(PLANS / f"{name}.toml")
    for one in VARIANTS:
        if "privacy" not in one.changes and (name in FULL or not one.changes.get("training")):
            same = changed(plan, one.changes, one.relative(plan))
            seen = same.rounds * same.training.local_steps * same.training.batch_size
            assert seen == plan.rounds * plan.training.local_steps * plan.training.batch_size


def test_changes_that_contradict_are_refused(small: Plan) -> None:
    with pytest.raises(PlanError, match="scaffold"):
        changed(small, {"training": {"scaffold": True}, "aggregation": {"rule": "sketched"}})


def test_estimates_follow_finished_rows_of_the_set() -> None:
    estimate = Estimate([figures("ffa", 0, 0.5), baselines(0, 0.2, 0.8)])
    assert estimate.seconds(Row("banking77", "fedavg", 1)) == 5.0
    assert estimate.seconds(Row("banking77", BASELINES, 1)) == 9.0
    assert estimate.seconds(Row("medquad", BASELINES, 1)) > estimate.seconds(Row("medquad", "ffa", 1)) > 60


def test_table_shows_error_spread_gap_and_bytes() -> None:
    rows = [baselines(0, 0.2, 0.8), baselines(1, 0.2, 0.8), figures("default", 0, 0.7), figures("default", 1, 0.8)]
    rows += [figures("fedavg", 0, 0.1, bytes_up=8_000_000, bytes_down=12_000_000)]
    text = tables(rows)
    assert "| default | .750 | .071 | .043 | 92 % | .750 | 0 of 4 | 4.0 | 6.0 | 0.50 | 8 | 3 |" in text
    assert "| fedavg | .100 |  | .030 | -17 % | .100 | 2 of 2 | 8.0 | 12.0 | 1.00 | 8 | 3 |" in text
    assert "| *alone, best* | .200 |" in text and "| *pooled* | .800 |" in text


def test_no_percentage_of_a_small_gap() -> None:
    near = SetFigures("banking77", [baselines(0, 0.70, 0.79), figures("default", 0, 0.78)])
    assert near.gap_closed("default") is None
    enough = SetFigures("banking77", [baselines(0, 0.70, 0.80), figures("default", 0, 0.75)])
    assert enough.gap_closed("default") == pytest.approx(0.5)


def test_where_lower_is_better_the_gap_and_worse_are_turned() -> None:
    rows = [baselines(0, 2.0, 1.0), figures("default", 0, 1.25, metric="bits_per_byte"), figures("fedavg", 0, 2.5, metric="bits_per_byte")]
    turned = SetFigures("banking77", rows)
    assert turned.gap_closed("default") == pytest.approx(0.75)
    assert turned.worse_than_alone("default") == (0, 2) and turned.worse_than_alone("fedavg") == (2, 2)
    assert standard_error("bits_per_byte", 1.25, 100) is None


def test_an_institutions_own_model_counts_where_there_is_one() -> None:
    tuned = figures("tune-up", 0, 0.5, personalised={"a": 0.9, "b": 0.6})
    assert SetFigures("banking77", [baselines(0, 0.7, 0.8), tuned]).worse_than_alone("tune-up") == (1, 2)


def test_aims_are_said_to_be_missed_too() -> None:
    rows = [baselines(0, 0.2, 0.8), figures("default", 0, 0.7), figures("fedavg", 0, 0.7), figures("private, epsilon 8", 0, 0.34)]
    rows += [figures("experts: esft, full", 0, 0.4), figures("lora at the bytes of esft, full", 0, 0.65)]
    text = reach(rows)
    assert "closes 83 % of the gap; the aim is 95 % (missed)" in text
    assert "1.00 of the bytes of fedavg with 32 bits an element; the aim is one half (missed)" in text and "it takes 1.25." in text
    rows += [figures("experts: esft, lora", 0, 0.6), figures("lora at the bytes of esft, lora", 0, 0.5)]
    assert "error of 0.070: neither wins" in reach(rows)
    assert "experts do not win" in text and "keeps 40 % of the default's gain" in text


def test_tables_stand_between_the_pages_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_tables(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    page.write_text("no place")
    with pytest.raises(ValueError, match="lacks the lines"):
        put_tables(page, "new")


def test_missing_data_is_said_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="banking77/records.jsonl is not there"):
        open_set("banking77", tmp_path, tmp_path)


def test_derived_records_are_written_once(tmp_path: Path) -> None:
    rows = [{"split": "train", "question": text, "answer": "1"} for text in ("It costs $2.", "Three hours later", "Four birds")]
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = open_set("gsm8k", tmp_path, tmp_path / "work").plan
    assert plan.simulation is not None
    found = [json.loads(line)["topic"] for line in Path(plan.simulation.source).read_text().splitlines()]
    assert found == ["money", "time", "count"]


def test_topics_and_passages() -> None:
    assert (
        topic("She sells 3 apples an hour") == "money"
        and topic("Her discount of sand") == "count"
        and topic("a timeless daybreak") == "count"
    )
    assert passages("word " * 1000) == [("word " * 120).strip()] * 8


def test_variants_have_names_and_folders_of_their_own() -> None:
    folders = {Row("a", one.name, 0).folder for one in VARIANTS}
    assert len(folders) == len(VARIANTS)
    assert all(one.bytes_of is None or any(other.name == one.bytes_of for other in VARIANTS) for one in VARIANTS)
    assert Variant("default") in VARIANTS
