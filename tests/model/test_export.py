"""A release becomes a Hugging Face directory with the same logits, and is refused with another base or a changed file."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.numpy import save_file
from transformers import DeepseekV3ForCausalLM
from typer.testing import CliRunner

from coordinator.registry.records import NewRun, Round
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState
from coordinator.release import TrainedModel, release_model
from model.adapters import attach_adapters, load_adapter
from model.bases import bundled_base
from model.checkpoint.fingerprint import checkpoint_sha256
from model.checkpoint.inventory import count_checkpoint, count_held
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.cli import app
from model.errors import CheckpointError, ReleaseError
from model.export import export_adapter, export_release, open_model
from model.layout import AdapterConfig, AdapterError, adapter_layout
from model.release import read_release
from model.transformer import DeepseekV3
from protocols.identity import Identity
from protocols.plan import Plan, parse_plan
from protocols.state import State, state_hash
from tests.model.configurations import random_network, random_tokens, relative_error

EXPERTS = {1: (0, 5), 3: (1,)}
TRAINABLE: dict[str, Any] = {
    "lora_rank": 3,
    "lora_alpha": 6.0,
    "targets": ["attention", "shared_experts", "dense_mlp", "lm_head", "embeddings"],
    "experts": "esft-token",
    "expert_rank": 2,
    "mtp": "auto",
}
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def release(folder: Path, plan: Plan, state: State) -> Path:
    """The version's directory that the coordinator writes for a run which ended with `state`."""
    registry = Registry.open(str(folder / "registry.db"), lambda: NOW)
    new = NewRun(plan.name, plan.sha256, plan.canonical().decode(), plan.base.sha256, plan.seed, plan.rounds)
    run = registry.create_run(new, b"\1").run
    for reached in (RunState.ACCEPTING, RunState.RUNNING):
        registry.set_state(run, reached)
    registry.record_round(run, Round(0, state_hash(state).hex(), {}, (), 0.0))
    registry.set_state(run, RunState.FINISHED)
    trained, identity = TrainedModel(run, state, "", 3, 1), Identity("coordinator", bytes(32))
    version = release_model(registry, plan, trained, identity=identity, models=folder / "models", now=NOW)
    registry.close()
    return folder / "models" / version.path


def released(folder: Path, trainable: dict[str, Any] = TRAINABLE, **changes: Any) -> tuple[DeepseekV3, Path]:
    """A network carrying random adapters, and the directory of their release."""
    net, base = random_network(num_nextn_predict_layers=1, **changes), folder / "base"
    save_checkpoint(net, base)
    content = {"base": {"name": str(base), "sha256": checkpoint_sha256(base)}, "records": {"prompt": "{a}", "target": "{b}"}}
    plan = parse_plan({"name": "triage", "trainable": trainable, **content}, "plan")
    adapter = AdapterConfig.from_fields(plan.adapter_fields)
    rng = np.random.default_rng(0)
    tensors = {t.name: rng.normal(0, 0.1, t.shape).astype(np.float32) for t in adapter_layout(net.config, adapter, EXPERTS)}
    attach_adapters(net, adapter, EXPERTS)
    load_adapter(net, tensors)
    return net, release(folder, plan, State(plan.base.sha256, 0, tensors, EXPERTS))


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_computes_the_adapted_network_s_logits(tmp_path: Path, tied: bool) -> None:
    net, version = released(tmp_path, tie_word_embeddings=tied)
    export_release(version, tmp_path / "out")
    tokens = random_tokens(1, 2, 9)
    theirs = DeepseekV3ForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    with torch.no_grad():
        ours = net(tokens)
        assert relative_error(ours.logits, theirs(tokens).logits) < 1e-5
        again = load_checkpoint(tmp_path / "out")(tokens)
    assert relative_error(ours.mtp_logits[0], again.mtp_logits[0]) < 1e-5


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft_loads_attention_and_head_under_our_names(tmp_path: Path) -> None:
    net = random_network()
    save_checkpoint(net, tmp_path / "base")
    adapter = AdapterConfig(lora_rank=3, lora_alpha=6, targets=("attention", "lm_head"))
    rng = np.random.default_rng(0)
    tensors = {t.name: rng.normal(0, 0.1, t.shape).astype(np.float32) for t in adapter_layout(net.config, adapter, {})}
    attach_adapters(net, adapter, {})
    load_adapter(net, tensors)
    modules = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    LoraConfig(r=3, lora_alpha=6, target_modules=modules, task_type="CAUSAL_LM").save_pretrained(tmp_path)
    save_file({f"base_model.model.{name}": values for name, values in tensors.items()}, tmp_path / "adapter_model.safetensors")
    theirs = PeftModel.from_pretrained(DeepseekV3ForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32), tmp_path).eval()
    tokens = random_tokens(1, 2, 9)
    with torch.no_grad():
        assert relative_error(net(tokens).logits, theirs(tokens).logits) < 1e-5


WITHOUT_EMBEDDINGS = {**TRAINABLE, "targets": ["attention", "shared_experts", "dense_mlp", "lm_head"]}


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match any targeted module:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft_loads_a_release_s_adapter_alone(tmp_path: Path) -> None:
    net, version = released(tmp_path, WITHOUT_EMBEDDINGS)
    result = CliRunner().invoke(app, ["export", str(version), str(tmp_path / "out"), "--adapter", "--json"])
    document = json.loads(result.stdout)
    assert document["sha256"] == hashlib.sha256((tmp_path / "out" / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert document["mergeable"] and {name.split(".")[2] for name in document["left_out"]} == {"3"}
    theirs = PeftModel.from_pretrained(DeepseekV3ForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32), tmp_path / "out")
    again, _ = open_model(tmp_path / "out", tmp_path / "base")
    tokens = random_tokens(1, 2, 9)
    with torch.no_grad():
        ours = net(tokens).logits
        assert relative_error(ours, theirs.eval()(tokens).logits) < 1e-5
        assert relative_error(ours, again(tokens).logits) < 1e-5


NEW_FORMS: dict[str, dict[str, Any]] = {
    "cores": {"embedding_mode": "lora", "core": True},
    "router_biases": {"embedding_mode": "lora", "router_bias": "summed-counts"},
}


@pytest.mark.parametrize("form", NEW_FORMS)
def test_a_release_with_cores_or_router_biases_is_opened_exported_and_described(tmp_path: Path, form: str) -> None:
    net, base = random_network(num_nextn_predict_layers=1, tie_word_embeddings=True), tmp_path / "base"
    save_checkpoint(net, base)
    content = {"base": {"name": str(base), "sha256": checkpoint_sha256(base)}, "records": {"prompt": "{a}", "target": "{b}"}}
    plan = parse_plan({"name": "triage", "trainable": TRAINABLE, **content}, "plan")
    adapter = AdapterConfig.from_fields(plan.trainable.model_dump() | NEW_FORMS[form])
    rng = np.random.default_rng(0)
    tensors = {t.name: rng.normal(0, 0.1, t.shape).astype(np.float32) for t in adapter_layout(net.config, adapter, {})}
    attach_adapters(net, adapter, {})
    load_adapter(net, tensors)
    version = release(tmp_path, plan, State(plan.base.sha256, 0, tensors, {}))
    _replan(version, NEW_FORMS[form])
    export_release(version, tmp_path / "out")
    tokens = random_tokens(1, 2, 9)
    theirs = DeepseekV3ForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    with torch.no_grad():
        assert relative_error(net(tokens).logits, theirs(tokens).logits) < 1e-5
    shown = json.loads(CliRunner().invoke(app, ["info", str(version), "--json"]).stdout)
    assert shown["trained_parameters"] == sum(values.size for values in tensors.values())


def test_an_adapter_alone_says_what_is_left_out_and_what_peft_must_not_merge(tmp_path: Path) -> None:
    _, version = released(tmp_path, WITHOUT_EMBEDDINGS, tie_word_embeddings=True)
    result = CliRunner().invoke(app, ["export", str(version), str(tmp_path / "out"), "--adapter"])
    assert "multi-token prediction are left out" in result.stdout and "Do not merge it by peft" in result.stdout


def test_an_adapter_alone_is_refused_where_it_would_need_base_weights(tmp_path: Path) -> None:
    _, version = released(tmp_path)
    with pytest.raises(AdapterError, match="model.embed_tokens.weight is trained in full"):
        export_adapter(version, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_alone_has_no_other_type(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(tmp_path), str(tmp_path / "out"), "--adapter", "--dtype", "bfloat16"])
    assert result.exit_code == 2 and "--dtype is for merged weights" in result.output


def test_another_base_is_refused(tmp_path: Path) -> None:
    _, version = released(tmp_path)
    save_checkpoint(random_network(seed=1, num_nextn_predict_layers=1), tmp_path / "other")
    with pytest.raises(
        ReleaseError, match=f"not the base of triage 1, which was trained on {tmp_path / 'base'}: .* is needed; give the dir"
    ):
        open_model(version, tmp_path / "other")
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(ReleaseError, match=f"Release triage 1 was trained on {tmp_path / 'base'}, which is not here: give --base PATH"):
        open_model(version)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    _, version = released(tmp_path)
    with (version / "adapter_model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(ReleaseError, match="not the file that was released"):
        read_release(version)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"files": {}}, "not the file that was released"),
        ({"files": []}, "files"),
        ({"experts": {"1": ["a"]}}, "experts"),
        ({"experts": {"9" * 5000: [0]}}, "experts"),
        ({"base": {"name": "x", "sha256": 5}}, "base.sha256"),
        ({"name": None}, "name"),
    ],
)
def test_a_manifest_that_is_none_is_refused_by_field(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    _, version = released(tmp_path)
    manifest = version / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    with pytest.raises(ReleaseError, match=sentence):
        read_release(version)


@pytest.mark.parametrize(
    ("trainable", "sentence"),
    [({"lora_rank": "8"}, "lora_rank"), ({"lora_alpha": float("nan")}, "lora_alpha"), ({"rank_pattern": {"a": "b"}}, "rank_pattern")],
)
def test_a_plan_that_is_none_is_refused_by_field(tmp_path: Path, trainable: dict[str, Any], sentence: str) -> None:
    _, version = released(tmp_path)
    _replan(version, trainable)
    with pytest.raises(ReleaseError, match=sentence):
        read_release(version)


def test_ranks_beyond_the_stored_tensors_are_refused_before_room_is_made(tmp_path: Path) -> None:
    _, version = released(tmp_path)
    _replan(version, {"lora_rank": 10**12, "expert_rank": 10**12})
    with pytest.raises(AdapterError, match="but this plan and base need"):
        open_model(version)


def _replan(version: Path, trainable: dict[str, Any]) -> None:
    """Changes the plan, and the manifest to suit it."""
    plan, manifest = version / "plan.json", version / "manifest.json"
    content = json.loads(plan.read_text())
    plan.write_text(json.dumps(content | {"trainable": content["trainable"] | trainable}))
    stated = json.loads(manifest.read_text())
    stated["files"]["plan.json"] = hashlib.sha256(plan.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(stated))


@pytest.mark.parametrize("file", ["manifest.json", "plan.json"])
def test_a_release_nested_beyond_reason_is_refused(tmp_path: Path, file: str) -> None:
    _, version = released(tmp_path)
    (version / file).write_text("[" * 200_000)
    with pytest.raises(ReleaseError):
        read_release(version)


def test_a_bfloat16_export_is_rounded_once_and_keeps_the_routers_bias(tmp_path: Path) -> None:
    _, version = released(tmp_path)
    export_release(version, tmp_path / "out", dtype=torch.bfloat16)
    base, out = (load_checkpoint(tmp_path / name) for name in ("base", "out"))
    merged = open_model(version)[0].bfloat16().state_dict()  # in float32, and rounded once
    assert all(torch.equal(tensor, merged[name]) for name, tensor in out.state_dict().items())
    assert torch.equal(out.routers()[1].e_score_correction_bias, base.routers()[1].e_score_correction_bias)


def test_a_failed_export_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no room")

    _, version = released(tmp_path)
    (tmp_path / ".out.draft").mkdir()  # somebody's own
    before = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / "base" / "tokenizer.json").touch()
    monkeypatch.setattr("model.export.shutil.copyfile", full)
    with pytest.raises(OSError, match="no room"):
        export_release(version, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_nothing_is_written_over_an_existing_directory(tmp_path: Path) -> None:
    _, version = released(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(CheckpointError, match="not empty"):
        export_release(version, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize(("out", "sentence"), [("mine", "mine is a file"), ("mine/out", "out lies below a file")])
def test_a_file_is_never_replaced_by_a_directory(tmp_path: Path, out: str, sentence: str) -> None:
    _, release = released(tmp_path)
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(CheckpointError, match=sentence):
        export_release(release, tmp_path / out)
    assert (tmp_path / "mine").read_text() == "kept"


def test_export_prints_one_document(tmp_path: Path) -> None:
    _, release = released(tmp_path)
    result = CliRunner().invoke(app, ["export", str(release), str(tmp_path / "out"), "--json"])
    document = json.loads(result.stdout)
    assert (document["path"], document["sha256"]) == (str(tmp_path / "out"), checkpoint_sha256(tmp_path / "out"))


def test_the_inventory_counts_what_the_network_holds(tmp_path: Path) -> None:
    net = random_network(num_nextn_predict_layers=1, n_shared_experts=1)
    save_checkpoint(net, tmp_path / "base")
    found = count_checkpoint(tmp_path / "base")
    mtp = sum(p.numel() for name, p in net.named_parameters() if name.startswith("mtp."))
    assert found.mtp_parameters == mtp
    assert found.parameters == sum(p.numel() for p in net.parameters()) - mtp
    assert count_held(tmp_path / "base") == sum(values.numel() for values in net.state_dict().values())
    unused = 2 * 6 * 3 * 32 * 16  # two layers of eight experts, two of which a token passes
    assert found.active_parameters == found.parameters - unused
    assert found.cache_bytes_per_token == net.new_cache(1, 1).nbytes


def test_info_shows_a_release_and_a_bundled_base(tmp_path: Path) -> None:
    _, version = released(tmp_path)
    shown = json.loads(CliRunner().invoke(app, ["info", str(version), "--json"]).stdout)
    assert (shown["name"], shown["experts"]) == ("triage", {"1": [0, 5], "3": [1]})
    lines = CliRunner().invoke(app, ["info", str(version)]).stdout.splitlines()
    assert [line for line in lines if line.startswith("experts")] == ["experts                 layer 1: 0, 5; layer 3: 1"]
    assert [line.split() for line in lines if line.startswith("lora rank")] == [["lora", "rank", str(shown["lora_rank"])]]
    assert any(line.split() == ["targets", *", ".join(shown["targets"]).split()] for line in lines)
    assert json.loads(CliRunner().invoke(app, ["info", "tiny", "--json"]).stdout)["sha256"] == checkpoint_sha256(bundled_base("tiny"))


def test_generate_continues_a_prompt() -> None:
    result = CliRunner().invoke(app, ["generate", "tiny", "--prompt", "the sea is", "--max-new-tokens", "4", "--json"])
    assert result.exit_code == 0
    assert 1 <= json.loads(result.stdout)["tokens"] <= 4
