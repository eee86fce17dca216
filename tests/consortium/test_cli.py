"""Commands that need no training."""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from consortium.cli import app
from consortium.demo.records import write_demo_records
from consortium.errors import SimulationError
from consortium.new_plan import write_plan
from consortium.preparation import prepare
from consortium.workplace import open_workplace
from protocols.plan import load_plan
from tests.consortium.command_line import ROOT, write_hostile_packages
from tests.consortium.command_line import consortium as _consortium
from tests.consortium.small_plan import small_records, write_small


def _commands(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from _commands(one, *path, name)


HELP = [(*path, "--help") for path in _commands(get_command(app))]
DEMO_PLAN = str(ROOT / "consortium" / "demo" / "plan.toml")
WITHOUT_TRAINING = [("plan", "check", DEMO_PLAN), ("model", "info", "tiny")]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_hostile_packages(folder)
    return folder


def test_every_command_is_among_those_that_are_tried() -> None:
    assert {("--help",), ("simulate", "--help"), ("coordinator", "verify", "--help"), ("model", "export", "--help")} <= set(HELP)


@pytest.mark.parametrize("arguments", [*HELP, *WITHOUT_TRAINING], ids=lambda arguments: " ".join(arguments[:2]))
def test_commands_run_in_a_folder_that_holds_hostile_packages(hostile: Path, arguments: tuple[str, ...]) -> None:
    done = _consortium(hostile, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout or "--help" not in arguments


def test_help_shows_the_names_of_tables() -> None:
    assert "with a [simulation] table" in " ".join(CliRunner().invoke(app, ["simulate", "--help"], env={"COLUMNS": "200"}).output.split())


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"consortium {importlib.metadata.version('consortium')}\n"


def test_help_answers_within_half_a_second(tmp_path: Path) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        assert _consortium(tmp_path, "--help").returncode == 0
        return time.perf_counter() - start

    # Other work of the machine makes a start slower and nothing makes it faster, so that one quick start is the proof.
    assert any(seconds() < 0.5 for _ in range(10))


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


def test_new_says_what_it_guessed(tmp_path: Path) -> None:
    write_demo_records(tmp_path / "mine.jsonl", 0)
    done = _consortium(tmp_path, "new", "triage", "--records", "mine.jsonl")
    assert "it learns ' {code}' after '{note}\\ncode:', " in done.stdout
    assert "divided by field site" in done.stdout


def test_an_interrupted_simulation_says_that_it_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("consortium.simulation.simulate", interrupted)
    done = CliRunner().invoke(app, ["simulate", str(write_small(tmp_path))])
    assert done.exit_code == 130
    assert "the same command goes on after the last finished round" in done.stderr


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
