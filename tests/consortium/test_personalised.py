"""Models of institutions' own at the end of a simulation, and `client tune` on what was released."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from client.personal import PersonalFiles
from consortium import simulate
from consortium.cli import app
from consortium.report import Report
from model.release import read_release
from tests.consortium.small_plan import write_small

TUNED = "[personalisation]\ntune_steps = 8\ntune_learning_rate = 0.01\n"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("tuned")
    return simulate(write_small(folder, rounds=1, more=TUNED), folder / "out", baselines=False)


def _tune(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    result = CliRunner().invoke(app, ["client", "tune", *arguments])
    return result.exit_code, result.stdout, result.stderr


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_institution_is_tuned_and_measured_on_its_own_test_records(tuned: Report) -> None:
    personal = tuned["personalised"]
    assert set(personal["institutions"]) == {"north", "south", "west"} and personal["in_federated"] is False
    assert personal["mean"] == pytest.approx(np.mean(list(personal["institutions"].values())))
    released = Path(tuned["model"])
    shared = read_release(released)
    for name in personal["institutions"]:
        own = read_release(tuned.path.parent / "institutions" / name / "models" / "small" / "1")
        assert own.tensors.keys() == shared.tensors.keys() and own.base_sha256 == shared.base_sha256
        manifest = json.loads((own.directory / "manifest.json").read_bytes())
        moved = any(not np.array_equal(own.tensors[key], values) for key, values in shared.tensors.items())
        assert moved == bool(manifest["tuned_step"]) and "signature" not in manifest


def test_the_command_writes_to_the_institution_s_folder_alone(tuned: Report) -> None:
    institution, released = tuned.path.parent / "institutions" / "south", Path(tuned["model"])
    before = _files(released)
    code, said, progress = _tune(str(released), "--institution", str(institution), "--steps", "8", "--json")
    document = json.loads(said)
    assert progress.splitlines() == [f"tuned {section} of 8 sections" for section in range(1, 9)]
    assert code == 0 and document["held_out"] == 1 and document["steps"] == 8 and document["metric"] == "accuracy"
    own = institution / "models" / "small" / "1"
    assert Path(document["model"]) == own and read_release(own).name == "small" and _files(released) == before
    again, sentence, _ = _tune(str(released), "--institution", str(institution))
    assert again == 0 and "accuracy on 1 held-out training records" in sentence and str(own) in sentence
    generated = CliRunner().invoke(app, ["model", "generate", str(own), "--prompt", "note: a\ncode:"])
    assert generated.exit_code == 0, generated.output


def test_what_cannot_be_tuned_is_one_sentence(tuned: Report, tmp_path: Path) -> None:
    institution, released = tuned.path.parent / "institutions" / "north", Path(tuned["model"])
    assert _tune(str(tmp_path / "absent"), "--institution", str(institution))[0] == 2
    assert _tune(str(released), "--institution", str(tmp_path))[0] == 2
    code, said, _ = _tune(str(tmp_path), "--institution", str(institution), "--json")
    assert code == 1 and "is no released model" in json.loads(said)["error"]


def test_a_plan_without_steps_asks_for_them(tmp_path: Path) -> None:
    report = simulate(write_small(tmp_path, rounds=1), tmp_path / "out", baselines=False)
    assert report["personalised"] is None
    code, _, said = _tune(report["model"], "--institution", str(tmp_path / "out" / "institutions" / "north"))
    assert code == 1 and "personalisation.tune_steps" in said


def test_under_fedsa_the_federation_s_figures_are_those_of_own_models(tmp_path: Path) -> None:
    report = simulate(write_small(tmp_path, rounds=1, more='[aggregation]\nrule = "fedsa"\n'), tmp_path / "out", baselines=False)
    assert report["personalised"]["institutions"] == report["federated_own"] and report["personalised"]["in_federated"]
    released = read_release(Path(report["model"]))
    assert not any(values.any() for name, values in released.tensors.items() if name.endswith("lora_B.weight"))
    run = json.loads((released.directory / "manifest.json").read_bytes())["run"]
    kept = PersonalFiles(tmp_path / "out" / "institutions" / "north" / "node", run).newest(1)
    assert kept is not None and all(name.endswith("lora_B.weight") for name in kept.tensors) and any(v.any() for v in kept.tensors.values())
