"""What `consortium plan check` says before anything is trained."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.errors import RecordError
from consortium.bases import base_directory
from consortium.cli import app
from consortium.demo.records import write_demo_records
from consortium.errors import SimulationError
from consortium.plan_check import check_costs
from model.config import read_config
from model.layout import AdapterConfig, adapter_layout
from protocols.aggregation.sketches import modules
from protocols.plan import load_plan
from protocols.selection import LEAST_UNEVENNESS
from tests.consortium.command_line import consortium

PLAN = """
name = "small"
base = "tiny"
rounds = 3
[records]
prompt = "{note}\\ncode:"
target = " {code}"
max_tokens = 96
[trainable]
lora_rank = 2
targets = ["attention"]
expert_rank = 2
[training]
local_steps = 30
batch_size = 4
label_prior = "corrected"
[simulation]
source = "records.jsonl"
"""


def steady(seconds: float) -> Callable[[], float]:
    """A clock that goes on by as much at every look."""
    ticks = itertools.count()
    return lambda: next(ticks) * seconds


def write(folder: Path, content: str = PLAN) -> Path:
    (folder / "plan.toml").write_text(content)
    return folder / "plan.toml"


def test_time_is_measured_on_the_plan_s_own_records(tmp_path: Path) -> None:
    write_demo_records(tmp_path / "records.jsonl", 0)
    costs = check_costs(write(tmp_path), steady(0.5))
    # 0.5 s for one step to warm up leaves two to measure, which take 0.5 s together.
    assert costs["seconds_per_round"] == pytest.approx(0.25 * 30)
    assert costs["seconds_measured_on"] == "one core of this machine, the plan's own records"
    assert costs["expert_unevenness"] > LEAST_UNEVENNESS
    said = CliRunner().invoke(app, ["plan", "check", str(tmp_path / "plan.toml")]).output
    assert f"routing: {costs['expert_unevenness']:.1%} would have to move for equal use of all experts, and a choice needs 5%\n" in said


def test_of_a_batch_of_many_tokens_a_part_is_measured_on_random_records(tmp_path: Path) -> None:
    content = PLAN.replace("max_tokens = 96", "max_tokens = 1024").replace("batch_size = 4", "batch_size = 40")
    costs = check_costs(write(tmp_path, content), steady(60.0))
    assert costs["seconds_per_round"] == pytest.approx(60.0 * 30 * 10)  # four records of forty a step
    assert "random records of max_tokens" in costs["seconds_measured_on"]
    assert costs["expert_unevenness"] is None


DENSE = PLAN.replace("local_steps = 30", "local_steps = 1").replace("corrected", "none").replace("expert_rank = 2", 'experts = "none"')
NOISE = """institutions = 4
[evaluation]
metric = "bits_per_byte"
[privacy]
mechanism = "distributed"
noise_multiplier = 0.2
"""
PRIVATE = DENSE.replace("max_tokens = 96", 'max_tokens = 96\ntoo_long = "drop"') + NOISE


def private(folder: Path, *changes: tuple[str, str]) -> Path:
    content = PRIVATE
    for old, new in changes:
        content = content.replace(old, new)
    return write(folder, content)


def test_noise_under_the_sum_that_a_node_would_refuse_is_refused_with_what_is_enough(tmp_path: Path) -> None:
    write_demo_records(tmp_path / "records.jsonl", 0)
    with pytest.raises(SimulationError, match=r"noise_multiplier is 0\.2, and .* needs .*; set it to [0-9.]+ or more$") as refused:
        check_costs(private(tmp_path), steady(1.0))
    enough = str(refused.value).rpartition(" to ")[2].removesuffix(" or more")
    costs = check_costs(private(tmp_path, ("noise_multiplier = 0.2", f"noise_multiplier = {enough}")), steady(1.0))
    most = max(one["noise_multiplier"] for one in costs["privacy"]["institutions"].values())
    assert 0.95 * float(enough) < most <= float(enough)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ('unit = "group"\n', r'privacy\.unit is "group" and no field names the groups; name it as simulation\.group$'),
        ("delta = 0.1\n", r"privacy\.delta 0\.1 is not below 1 / N of the \d+ records of .*; set it below 0\.0\d+$"),
    ],
)
def test_private_plans_that_no_node_would_train_are_refused(tmp_path: Path, more: str, sentence: str) -> None:
    write_demo_records(tmp_path / "records.jsonl", 0)
    with pytest.raises(SimulationError, match=sentence):
        check_costs(write(tmp_path, PRIVATE + more), steady(1.0))


def test_a_private_plan_without_its_records_is_one_sentence_and_no_document(tmp_path: Path) -> None:
    done = consortium(tmp_path, "plan", "check", str(private(tmp_path)), "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("records.jsonl is no file, and noise depends on its records; correct simulation.source\n")


def test_one_round_is_no_plural(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["plan", "check", str(write(tmp_path, PLAN.replace("rounds = 3", "rounds = 1")))]).output
    assert said.partition("\n")[0].endswith("): 1 round")


def test_a_large_base_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consortium.round_time.LARGEST_BASE", 1000)
    assert check_costs(write(tmp_path), steady(1.0))["seconds_per_round"] is None


def test_every_sum_of_a_round_is_uploaded_and_comes_back_opened(tmp_path: Path) -> None:
    costs = check_costs(write(tmp_path), steady(1.0))
    every_third = check_costs(write(tmp_path, PLAN + "[evaluation]\nevery = 3\n"), steady(1.0))
    assert costs["download_bytes"] == costs["upload_bytes"] == every_third["upload_bytes"]
    # One factor of two travels in a round; weight, loss, examples and the metric's two sums beside it.
    assert 2 * costs["trained_parameters"] < costs["upload_bytes"] < 4 * costs["trained_parameters"]
    assert costs["memory_bytes"] > 16 * costs["trained_parameters"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("{note}", "{note.text}", r"records\.prompt asks for \{note\.text\}, but only a field's name"),
        ("{code}", "{code!r}", r"records\.target asks for \{code!r\}"),
        ("{note}", "{diagnosis}", r"line \d+: field diagnosis is missing"),
    ],
)
def test_templates_that_cannot_be_filled_are_refused(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    (tmp_path / "records.jsonl").write_text("".join(json.dumps({"note": "a"}) + "\n" for _ in range(60)))
    with pytest.raises((RecordError, SimulationError), match=sentence):
        check_costs(write(tmp_path, PLAN.replace(old, new)), steady(1.0))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (PLAN + "institutions = 4\n[secure_aggregation]\ncolluding = 3\n", "colluding is 3 and 4 institutions carry at most 2"),
        (PLAN + "[secure_aggregation]\ncolluding = 4\n", "colluding is 4 and 5 institutions carry at most 3"),
        (PLAN.partition("[simulation]")[0] + "[secure_aggregation]\ncolluding = 2\n", "colluding is 2 and 3 institutions carry at most 1"),
    ],
)
def test_more_colluding_than_the_cohort_carries_are_refused(tmp_path: Path, content: str, sentence: str) -> None:
    with pytest.raises(SimulationError, match=f"secure_aggregation.{sentence}; lower it"):
        check_costs(write(tmp_path, content), steady(1.0))


def test_nested_ranks_and_batches_say_what_they_need(tmp_path: Path) -> None:
    write_demo_records(tmp_path / "records.jsonl", 0)
    nested = PLAN.replace("lora_rank = 2", 'lora_rank = 2\nranks = "nested"') + "max_ranks = [2, 2, 2, 1, 1]\n"
    costs = check_costs(write(tmp_path, nested), steady(0.5))
    assert costs["needs"] == [
        "of 5 institutions in a round, 4 must hold a slice of rank columns for it to be trained",
        "with simulation.max_ranks that is the case for 1 of 2 slices, while nobody drops out",
    ]
    assert "to everyone: in each round, how many institutions hold each slice of rank columns" in costs["reveals"]
    batches = PLAN + "institutions = 7\n[participation]\nbatches = 2\n"
    assert check_costs(write(tmp_path, batches), steady(0.5))["needs"] == [
        "7 institutions train in 2 batches of 3 or 4, each once in 2 rounds"
    ]


def test_bytes_of_a_second_sum_are_counted_and_what_it_reveals_is_said(tmp_path: Path) -> None:
    """Of `sketched` each module sends s + 8 columns of its outputs, then s rows of its inputs, beside what fedavg sends."""
    write_demo_records(tmp_path / "records.jsonl", 0)
    dense = PLAN.replace("expert_rank = 2", 'experts = "none"')
    plans = {rule: f'{dense}[aggregation]\nrule = "{rule}"\n' for rule in ("fedavg", "sketched")}
    costs = {rule: check_costs(write(tmp_path, plan), steady(0.5)) for rule, plan in plans.items()}
    config = read_config(base_directory(load_plan(tmp_path / "plan.toml"), tmp_path))
    layout = adapter_layout(config, AdapterConfig(lora_rank=2, targets=("attention",)), {})
    elements = sum((module.size + 8) * module.out + module.size * module.width for module in modules(layout, 0))
    assert costs["sketched"]["upload_bytes"] - costs["fedavg"]["upload_bytes"] == 4 * elements + 4  # and the second sum's weight
    told = "the sum of the products of all institutions' factors"
    assert [any(told in line for line in costs[rule]["reveals"]) for rule in plans] == [False, True]
