"""Commands that need no training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from consortium.demo.records import write_demo_records
from consortium.errors import SimulationError
from consortium.new_plan import write_plan
from consortium.preparation import prepare
from consortium.workplace import open_workplace
from protocols.plan import load_plan
from tests.consortium.small_plan import small_records, write_small

ROOT = Path(__file__).parents[2]


def _consortium(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "consortium", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_commands_run_in_a_folder_that_holds_hostile_packages(tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text("raise SystemExit('hostile')")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("raise SystemExit('hostile')")
    done = _consortium(tmp_path, "--help")
    assert done.returncode == 0
    assert "simulate" in done.stdout


def test_a_missing_plan_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    done = _consortium(tmp_path, "simulate", "absent.toml")
    assert done.returncode == 1
    assert "absent.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_option_is_wrong_use_and_exit_code_2(tmp_path: Path) -> None:
    assert _consortium(tmp_path, "simulate", "--nonsense").returncode == 2


def test_a_new_plan_reads_its_fields_from_the_records_and_is_valid(tmp_path: Path) -> None:
    write_demo_records(tmp_path / "mine.jsonl", 0)
    plan = load_plan(write_plan("triage", tmp_path / "mine.jsonl", tmp_path))
    assert plan.records.prompt == "{note}\ncode:"
    assert plan.records.target == " {code}"
    assert plan.simulation is not None
    assert plan.simulation.partition.model_dump() == {"field": "site"}


def test_a_new_plan_never_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "triage.toml").write_text("mine")
    with pytest.raises(SimulationError, match="exists already"):
        write_plan("triage", None, tmp_path)
    assert (tmp_path / "triage.toml").read_text() == "mine"


def test_new_prints_one_document(tmp_path: Path) -> None:
    done = _consortium(tmp_path, "new", "triage", "--json")
    assert json.loads(done.stdout) == {"schema": 1, "name": "triage", "path": "triage.toml"}


def test_plan_check_prints_one_document_of_costs(tmp_path: Path) -> None:
    done = _consortium(ROOT, "plan", "check", "consortium/demo/plan.toml", "--json")
    costs = json.loads(done.stdout)
    assert costs["name"] == "demo"
    assert 0 < costs["upload_bytes"] <= 4 * costs["trained_parameters"]
    assert costs["download_bytes"] == costs["upload_bytes"]
    assert costs["seconds_per_round"] > 0


def _failed(folder: Path, *arguments: str) -> str:
    """What a command that fails says: one line on standard error, nothing on standard output where a program reads it."""
    done = _consortium(folder, *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_file_where_a_folder_is_needed_is_one_sentence(tmp_path: Path) -> None:
    write_small(tmp_path)
    assert "records.jsonl is a file" in _failed(tmp_path, "simulate", "plan.toml", "--out", "records.jsonl", "--json")


def test_a_file_in_the_place_of_the_demonstration_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "consortium-demo").mkdir()
    (tmp_path / "consortium-demo" / "run").write_text("mine")
    assert "consortium-demo/run is a file" in _failed(tmp_path, "demo", "--json")
    assert (tmp_path / "consortium-demo" / "run").read_text() == "mine"


def test_a_bad_record_says_where_it_is_and_prints_no_document(tmp_path: Path) -> None:
    rows = small_records()
    del rows[8]["code"]
    write_small(tmp_path, rows)
    assert "records.jsonl, line 9: field code is missing" in _failed(tmp_path, "simulate", "plan.toml", "--json")
    assert {path.name for path in tmp_path.iterdir()} == {"plan.toml", "records.jsonl"}


def test_a_damaged_report_is_one_sentence(tmp_path: Path) -> None:
    place = open_workplace(prepare(load_plan(write_small(tmp_path)), tmp_path), tmp_path / "consortium-small", overwrite=False)
    place.report_file.write_text('{"schema": 1')
    assert "consortium-small/report.json is damaged" in _failed(tmp_path, "simulate", "plan.toml", "--json")


def test_an_error_of_the_file_system_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "consortium-demo").write_text("mine")
    assert _failed(tmp_path, "demo").startswith("consortium-demo: File exists; ")
