"""The coordinator's commands: tables for people, one JSON document for programs, exit codes, and never torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.cli.rounds import Slow
from coordinator.events import InstitutionAnswered, StageBegun
from coordinator.registry import Registry
from coordinator.registry.records import ModelVersion
from coordinator.registry.states import RunState
from coordinator.release import TrainedModel
from coordinator.stage_record import Stage, StageRecord
from coordinator.waiting import BY_OPERATOR
from protocols.errors import ConsortiumError


@pytest.fixture
def database(release: Callable[[], ModelVersion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    release()
    monkeypatch.setenv("COLUMNS", "200")
    return str(tmp_path / "registry.db")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def document(*arguments: str) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_runs_are_listed(database: str, trained: TrainedModel) -> None:
    (run,) = document("runs", "--registry", database)["runs"]
    assert (run["run"], run["state"], run["rounds_done"], run["rounds"]) == (trained.run, "finished", 2, 2)
    table = call("runs", "--registry", database)
    assert trained.run in table.output
    assert "2 of 2" in table.output


def test_failed_run_shows_its_reason(registry: Registry, running: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    registry.set_state(running, RunState.FAILED, "birch [bold]stopped[/bold] answering")
    table = call("runs", "--registry", str(tmp_path / "registry.db"))
    assert "birch [bold]stopped[/bold] answering" in table.output


def test_at_eighty_columns_no_name_is_cut(database: str, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("runs", "models"):
        told = call(command, "--registry", database).output
        assert trained.run in told and "…" not in told


def test_rounds_are_listed(database: str, trained: TrainedModel) -> None:
    answer = document("rounds", "triage", "--registry", database)
    assert answer["run"] == trained.run
    figures = [(one["round"], one["metric"], one["missing"]) for one in answer["rounds"]]
    assert figures == [(0, 0.25, ["delta"]), (1, 0.5, ["delta"]), (2, 0.75, ["delta"])]
    assert answer["rounds"][0]["experts"] == {"1": [0, 5], "2": [3]}
    assert answer["rounds"][1]["absences"] == {"delta": {"from": "update sum", "reason": ""}}
    told = call("rounds", trained.run, "--registry", database).output
    assert "0.7500" in told and "delta was missing in round 0-2: missing from update sum" in told


def test_whom_a_stage_waits_for_is_told(registry: Registry, running: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "coordinator.toml").write_text("")
    record = StageRecord(tmp_path / "runs" / running, lambda: datetime(2030, 1, 1, 12, tzinfo=UTC))
    record.note(StageBegun(1, "update", 1, "train.sum", ("ada", "bea"), 60.0))
    record.note(InstitutionAnswered("bea"))
    for command in (("runs",), ("rounds", running)):
        told = call(*command, "--home", str(tmp_path)).output
        assert "bea answered train.sum; waiting for ada until 12:01:00 UTC" in told
    (run,) = document("runs", "--home", str(tmp_path))["runs"]
    assert run["stage"] == document("rounds", running, "--registry", str(tmp_path / "registry.db"))["stage"]
    assert run["stage"]["waiting"] == ["ada"]
    registry.set_state(running, RunState.PAUSED, "it rests")
    assert document("rounds", running, "--home", str(tmp_path))["stage"] is None


def test_a_stage_is_told_of_only_while_it_takes_long() -> None:
    slow, stage = Slow(), Stage(1, "update", 1, "train.sum", (), ("ada", "bea"), {}, "2030-01-01T12:01:00+00:00")
    later = replace(stage, stage="query.survivors")
    assert [slow.news(stage, 0.0), slow.news(later, 4.0), slow.news(later, 8.0)] == ["", "", ""]
    assert slow.news(later, 9.0) == later.line and slow.news(later, 10.0) == ""
    answered = replace(later, answered=("ada",), waiting=("bea",))
    assert slow.news(answered, 11.0) == answered.line and slow.news(None, 12.0) == ""


def test_a_stopped_run_that_is_followed_ends_with_its_table(registry: Registry, running: str, tmp_path: Path) -> None:
    registry.set_state(running, RunState.STOPPED, "the operator stopped it")
    told = call("rounds", running, "--follow", "--registry", str(tmp_path / "registry.db"))
    assert told.exit_code == 1 and f"Rounds of {running} (stopped)" in told.stdout and "the operator stopped it" in told.stdout


@pytest.mark.parametrize(
    ("reason", "word"), [(BY_OPERATOR, "it rests until `consortium coordinator resume "), ("ada is away", "it tries again by itself")]
)
def test_who_ends_a_pause_is_told(registry: Registry, running: str, tmp_path: Path, reason: str, word: str) -> None:
    registry.set_state(running, RunState.PAUSED, reason)
    for command in (("runs",), ("rounds", running)):
        assert f"{reason}; {word}" in call(*command, "--registry", str(tmp_path / "registry.db")).output


@pytest.mark.parametrize(
    "command", [("runs",), ("rounds", "triage"), ("models",), ("models", "show", "triage"), ("db", "status"), ("verify",)]
)
def test_reading_commands_take_the_operators_folder(database: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    none = call(*command, "--home", str(tmp_path))
    assert none.exit_code and "is no operator's home" in str(none.exception or "") + none.output
    (tmp_path / "coordinator.toml").write_text("")
    assert call(*command, "--home", str(tmp_path)).output == call(*command, "--registry", database).output
    assert call(*command, "--home", str(tmp_path), "--registry", database).exit_code == 2


def test_models_are_listed(database: str) -> None:
    (model,) = document("models", "--registry", database)["models"]
    assert (model["name"], model["version"], model["path"], model["metric"]) == ("triage", 1, "triage/1", 0.75)
    assert model["run"] in call("models", "--registry", database).output


def test_verification_finds_models_beside_the_registry(database: str) -> None:
    answer = json.loads(call("verify", "triage", "--registry", database, "--json").stdout)
    assert any("model triage 1" in sentence for sentence in answer["proved"])
    told = call("verify", "--registry", database).stdout.splitlines()
    assert told[0] == "Proved:" and "Not proved by this registry:" in told
    assert told[-1] == "1 thing is wrong.", "the run of these tests left no transcripts"


def test_verification_of_changed_files_exits_with_one(database: str, tmp_path: Path) -> None:
    (tmp_path / "models" / "triage" / "1" / "plan.json").write_text("{}")
    result = call("verify", "--registry", database, "--json")
    assert result.exit_code == 1
    assert not json.loads(result.stdout)["ok"]
    told = call("verify", "--registry", database).stdout.splitlines()
    assert "WRONG:" in told and told[-1] == "2 things are wrong."


def test_verification_of_an_empty_registry_exits_with_zero(registry: Registry, tmp_path: Path) -> None:
    result = call("verify", "--registry", str(tmp_path / "registry.db"))
    assert result.exit_code == 0 and "Proved" not in result.stdout.splitlines()
    assert result.stdout.splitlines()[-1] == "Nothing wrong found; 4 things are not proved."


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--registry", "{place}"], "{place} is a folder; did you mean {place}/registry.db?"),
        (["--registry", "{place}/none.db"], "there is no registry at {place}/none.db"),
        (["--registry", "{place}/text.db"], "{place}/text.db cannot be opened as a registry"),
        (["--registry", "{place}/registry.db", "nothing"], "there is no run 'nothing'"),
        (["--registry", "{place}/registry.db", "--runs", "{place}/none"], "{place}/none is no folder"),
        (["--registry", "{place}/registry.db", "--models", "{place}/none"], "{place}/none is no folder"),
        (["--registry", "{place}/registry.db", "--roster", "{place}/none"], "{place}/none cannot be read"),
    ],
)
def test_wrong_use_of_verification_is_one_sentence_or_document(
    registry: Registry, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    (tmp_path / "text.db").write_text("no database, and longer than a header of one would be: " * 9)
    given, said = [text.replace("{place}", str(tmp_path)) for text in arguments], complaint.replace("{place}", str(tmp_path))
    plain, program = call("verify", *given), call("verify", *given, "--json")
    assert (plain.exit_code, program.exit_code) == (2, 2)
    assert plain.stderr.startswith(said) and not plain.stdout
    answer = json.loads(program.stdout)
    assert (answer["ok"], set(answer)) == (False, {"schema", "ok", "error"}) and answer["error"].startswith(said)


def test_empty_registry_says_so(registry: Registry, tmp_path: Path) -> None:
    assert call("runs", "--registry", str(tmp_path / "registry.db")).output.strip() == "Runs: none"


def test_absent_registry_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("runs")
    assert isinstance(result.exception, ConsortiumError)
    assert str(result.exception).startswith("there is no registry at registry.db")
    assert list(tmp_path.iterdir()) == []


def test_settings_name_the_registry(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "coordinator.toml").write_text(f'registry = "{database}"')
    monkeypatch.chdir(folder)
    assert len(document("runs")["runs"]) == 1


@pytest.mark.parametrize("arguments", [("rounds",), ("runs", "--nonsense"), ("nonsense",)])
def test_wrong_use_exits_with_two(arguments: tuple[str, ...]) -> None:
    assert call(*arguments).exit_code == 2


SCRIPT = """
import sys
from coordinator.cli import app
assert not {"sqlalchemy", "alembic", "rich.table", "pydantic"} & sys.modules.keys(), "the command line imports what only commands need"
for arguments in (["runs"], ["rounds", "triage"], ["models"], ["verify"]):
    app([*arguments, "--registry", sys.argv[1]], standalone_mode=False)
loaded = {"torch", "flwr", "transformers", "client"} & sys.modules.keys()
assert not loaded, loaded
"""


def test_commands_load_neither_torch_nor_flwr(database: str) -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT, database], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "event chain is whole" in result.stdout
