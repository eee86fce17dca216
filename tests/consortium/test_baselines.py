"""The baselines as simulate starts them, on a network so small that a round takes a moment."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.settings import InstitutionSettings, write_settings
from consortium.baselines import run_baselines
from model.bases import bundled_base
from protocols.plan import Plan, parse_plan
from tests.consortium.command_line import environment

COLOURS = ("red", "green", "blue")


def make_plan(rounds: int = 2) -> Plan:
    content = {
        "schema": 1,
        "name": "colours",
        "rounds": rounds,
        "base": "tiny",
        "records": {"prompt": "{text}:", "target": " {label}"},
        "trainable": {"lora_rank": 2, "targets": ["attention"], "experts": "esft-token", "expert_rank": 2},
        "training": {"local_steps": 2, "batch_size": 4},
        "evaluation": {"choices": [f" {colour}" for colour in COLOURS]},
    }
    return parse_plan(content, "plan")


@pytest.fixture
def institutions(tmp_path: Path) -> dict[str, Path]:
    homes = {}
    for name in ("pooled", "b", "c"):
        home = tmp_path / "institutions" / name
        rows = [{"text": f"{name} {n}", "label": COLOURS[n % 3], "split": "test" if n < 3 else "train"} for n in range(12)]
        home.mkdir(parents=True)
        (home / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = {"records": {"source": "records.jsonl", "split": "split"}, "bases": {"tiny": str(bundled_base("tiny"))}}
        write_settings(home / "institution.toml", InstitutionSettings.model_validate(settings))
        homes[name] = home / "institution.toml"
    return homes


class Killed(BaseException):
    """What a kill looks like from inside."""


def test_restart_goes_on_and_ends_with_the_same_figures(tmp_path: Path, institutions: dict[str, Path]) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    steps: list[tuple[str, int, int]] = []
    run_baselines(make_plan(), institutions, whole, lambda *step: steps.append(step))
    assert steps == [(name, done, 2) for name in ("b", "c", "pooled", "pooled") for done in (1, 2)]
    seen: list[tuple[str, int, int]] = []

    def kill_at_third_step(*step: object) -> None:
        seen.append(step)  # type: ignore[arg-type]
        if len(seen) == 3:
            raise Killed

    with pytest.raises(Killed):
        run_baselines(make_plan(), institutions, pieces, kill_at_third_step)
    run_baselines(make_plan(), institutions, pieces, lambda *step: seen.append(step))
    assert seen == steps
    names = {"local-b.json", "local-c.json", "local-pooled.json", "pooled.json"}
    assert {path.name for path in whole.glob("*.json")} == names
    assert all(json.loads((whole / name).read_text()) == json.loads((pieces / name).read_text()) for name in names)


def test_process_leaves_figures_and_tells_its_progress(tmp_path: Path, institutions: dict[str, Path]) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "out"
    plan.write_bytes(make_plan(rounds=1).canonical())
    command = [sys.executable, "-c", "import sys; from consortium.baselines import main; sys.exit(main(sys.argv[1:]))"]
    done = subprocess.run([*command, plan, tmp_path / "institutions", out], capture_output=True, text=True, check=True)
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == ["b", "c", "pooled", "pooled"]
    assert set(json.loads((out / "local-b.json").read_text())) == {"union", "own"}
    assert set(json.loads((out / "pooled.json").read_text())) == {"union"}


def test_unreadable_records_end_the_process_with_one_sentence(tmp_path: Path, institutions: dict[str, Path]) -> None:
    plan = tmp_path / "plan.json"
    plan.write_bytes(make_plan().canonical())
    (institutions["b"].parent / "records.jsonl").write_text("")
    command = [sys.executable, "-c", "import sys; from consortium.baselines import main; sys.exit(main(sys.argv[1:]))"]
    failed = subprocess.run([*command, plan, tmp_path / "institutions", tmp_path / "out"], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert "the file holds no records" in failed.stderr


@pytest.mark.slow
def test_process_ends_with_its_standard_input(tmp_path: Path, institutions: dict[str, Path]) -> None:
    plan, out, progress = tmp_path / "plan.json", tmp_path / "out", tmp_path / "progress"
    plan.write_bytes(make_plan(rounds=100_000).canonical())
    command = [sys.executable, "-P", "-m", "consortium.baselines", *map(str, (plan, tmp_path / "institutions", out))]
    # Progress goes to a file: a pipe that nobody reads would end the process too, but only after a round.
    with progress.open("w") as file, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, env=environment()) as process:
        while not progress.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        assert process.stdin
        process.stdin.close()
        try:
            assert process.wait(timeout=30) == 1
        finally:
            process.kill()
    assert not (out / "local-b.json").exists()
