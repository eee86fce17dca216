"""A released directory is complete, signed and atomic, and any change to it is noticed."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from coordinator.errors import ReleaseRefused
from coordinator.registry import Registry
from coordinator.registry.records import ModelVersion, NewRun
from coordinator.registry.states import RunState
from coordinator.release import TrainedModel, release_model
from protocols.errors import ReleaseBroken
from protocols.identity import Identity
from protocols.plan import Plan
from protocols.release import file_sha256, verify_release
from protocols.state import state_hash
from tests.coordinator.conftest import make_round, make_state

NOW = datetime(2030, 2, 3, tzinfo=UTC)
Release = Callable[..., ModelVersion]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights stay where they are")
    return folder


@pytest.fixture
def folder(release: Release, tmp_path: Path, tokenizer: Path) -> Path:
    return tmp_path / "models" / release(tokenizer).path


def test_released_directory_holds_everything(folder: Path, trained: TrainedModel, plan: Plan, identity: Identity) -> None:
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json", "plan.json", "tokenizer.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in folder.parent.iterdir()] == ["1"]
    manifest = verify_release(folder, identity.public_key)
    assert manifest["files"].keys() == names - {"manifest.json"}
    assert manifest["state_sha256"] == state_hash(trained.state).hex()
    assert manifest["experts"] == {"1": [0, 5], "2": [3]}
    assert (folder / "plan.json").read_bytes() == plan.canonical()


def test_weights_are_those_of_the_state(folder: Path, trained: TrainedModel) -> None:
    stored = {name.removeprefix("base_model.model."): values for name, values in load_file(folder / "adapter_model.safetensors").items()}
    assert stored.keys() == trained.state.tensors.keys()
    for name, values in trained.state.tensors.items():
        assert stored[name].dtype == np.float32
        assert np.array_equal(stored[name], values)


def test_configuration_names_the_modules_that_peft_adapts(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 8, 16.0)
    assert config["target_modules"] == ["model.layers.0.self_attn.q_a_proj"]
    assert config["rank_pattern"] == {"model.layers.0.self_attn.q_a_proj": 3}


@pytest.mark.slow
def test_peft_reads_the_configuration(folder: Path) -> None:
    from peft import LoraConfig, PeftConfig

    config = PeftConfig.from_pretrained(str(folder))
    assert isinstance(config, LoraConfig)
    assert config.base_model_name_or_path == "tiny"


def test_card_tells_lineage_and_what_was_not_protected(folder: Path, trained: TrainedModel, plan: Plan) -> None:
    card = (folder / "README.md").read_text()
    lineage = (trained.run, plan.sha256, plan.base.sha256, trained.transcript_sha256)
    figures = ("| base, before training | 0.2500 |", "| this model | 0.7500 |", "| 2 | 3 | delta | 0.6667 | 0.7500 |", "| 1 | 0, 5 |")
    for text in (*lineage, *figures, "No differential privacy", "Membership inference", "Poisoning", "OUT --adapter\n"):
        assert text in card
    assert "took 3 institutions" in card


def test_releasing_again_changes_nothing(release: Release, folder: Path, registry: Registry) -> None:
    before = {path.name: file_sha256(path) for path in folder.iterdir()}
    assert release() == registry.model_versions()[0]
    assert {path.name: file_sha256(path) for path in folder.iterdir()} == before


def test_release_that_died_before_its_row_is_repeated(release: Release, tmp_path: Path, identity: Identity) -> None:
    for leftover in ("1", ".1.draft"):
        (tmp_path / "models" / "triage" / leftover).mkdir(parents=True)
        (tmp_path / "models" / "triage" / leftover / "half").write_text("written")
    verify_release(tmp_path / "models" / release().path, identity.public_key)


def test_next_run_of_the_plan_is_the_next_version(release: Release, registry: Registry, trained: TrainedModel, new_run: NewRun) -> None:
    release()
    run = registry.create_run(new_run, b"\x07").run
    registry.set_state(run, RunState.ACCEPTING)
    registry.set_state(run, RunState.RUNNING)
    registry.record_round(run, make_round(0, 0.2, state_hash(trained.state).hex()))
    registry.set_state(run, RunState.FINISHED)
    second = release(run=run)
    assert (second.version, second.path) == (2, "triage/2")


@pytest.mark.parametrize("victim", ["README.md", "adapter_config.json", "adapter_model.safetensors", "plan.json", "tokenizer.json"])
def test_changed_file_is_named(folder: Path, identity: Identity, victim: str) -> None:
    content = (folder / victim).read_bytes()
    (folder / victim).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ReleaseBroken, match=f"{victim}: changed after the release"):
        verify_release(folder, identity.public_key)


def test_added_and_missing_files_are_named(folder: Path, identity: Identity) -> None:
    (folder / "extra.py").write_text("print()")
    with pytest.raises(ReleaseBroken, match=r"extra\.py: was added"):
        verify_release(folder, identity.public_key)
    (folder / "extra.py").unlink()
    (folder / "plan.json").unlink()
    with pytest.raises(ReleaseBroken, match=r"plan\.json: is missing"):
        verify_release(folder, identity.public_key)


def test_changed_manifest_is_not_signed(folder: Path, identity: Identity) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"round": 2', '"round": 3'))
    with pytest.raises(ReleaseBroken, match="not signed by the key expected"):
        verify_release(folder, identity.public_key)


def test_manifest_of_another_signer_is_refused(folder: Path) -> None:
    with pytest.raises(ReleaseBroken, match="not signed by the key expected"):
        verify_release(folder, Identity("coordinator", bytes(32)).public_key)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"signature": "00", "files": {"../x": "0"}}'])
def test_damaged_manifest_is_refused(folder: Path, identity: Identity, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ReleaseBroken, match="no readable manifest"):
        verify_release(folder, identity.public_key)


def test_model_no_better_than_required_is_refused(registry: Registry, plan: Plan, running: str, identity: Identity, tmp_path: Path) -> None:
    state = make_state(1)
    registry.record_round(running, make_round(0, 0.5))
    registry.record_round(running, make_round(1, 0.4, state_hash(state).hex()))
    registry.set_state(running, RunState.FINISHED)
    with pytest.raises(ReleaseRefused, match=r"went from 0\.5000 \(base\) to 0\.4000"):
        release_model(registry, plan, TrainedModel(running, state, "0" * 64, 3, 1), identity=identity, models=tmp_path / "models", now=NOW)
    assert registry.model_versions() == ()
    assert not (tmp_path / "models").exists()


def test_state_of_another_round_is_refused(release: Release) -> None:
    with pytest.raises(ReleaseRefused, match="is not the one that round 2"):
        release(state=make_state(1))


def test_run_under_way_is_not_released(registry: Registry, plan: Plan, running: str, identity: Identity, tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match="is running; only a finished run"):
        release_model(registry, plan, TrainedModel(running, make_state(0), "0" * 64, 3, 1), identity=identity, models=tmp_path, now=NOW)


def test_copy_of_a_release_is_as_good(folder: Path, identity: Identity, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert verify_release(tmp_path / "copy", identity.public_key) == verify_release(folder, identity.public_key)
