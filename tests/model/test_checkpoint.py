"""Checkpoints: complete, bit-equal on the way round, and refused with the tensor's name when they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint import load_checkpoint, save_checkpoint
from model.errors import CheckpointError, ConfigError, ModelError
from model.fingerprint import checkpoint_sha256
from tests.model.configurations import random_network, random_tokens


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(random_network(num_nextn_predict_layers=1), tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("tied", [False, True])
def test_save_load_save_is_bit_equal_with_mtp_kept(tmp_path: Path, tied: bool) -> None:
    save_checkpoint(random_network(num_nextn_predict_layers=2, tie_word_embeddings=tied), tmp_path / "a")
    save_checkpoint(load_checkpoint(tmp_path / "a"), tmp_path / "b")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert any(name.startswith("model.layers.4.eh_proj") for name in load_file(tmp_path / "b" / "model.safetensors"))


def test_the_stored_type_is_kept_unless_another_is_asked_for(tmp_path: Path) -> None:
    save_checkpoint(random_network().to(torch.bfloat16), tmp_path / "bf16")
    assert load_checkpoint(tmp_path / "bf16").lm_head.weight.dtype == torch.bfloat16
    assert load_checkpoint(tmp_path / "bf16", dtype=torch.float32).lm_head.weight.dtype == torch.float32


def test_a_sharded_checkpoint_is_the_same_checkpoint(saved: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    tensors = load_file(saved / "model.safetensors")
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for shard, part in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in part}, sharded / f"model-{shard}.safetensors")
        weight_map |= dict.fromkeys(part, f"model-{shard}.safetensors")
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (sharded / "config.json").write_bytes((saved / "config.json").read_bytes())
    tokens = random_tokens(9, 1, 8)
    assert torch.equal(load_checkpoint(sharded)(tokens).logits, load_checkpoint(saved)(tokens).logits)
    assert checkpoint_sha256(sharded) == checkpoint_sha256(saved)


def test_the_hash_sees_every_bit(saved: Path, tmp_path: Path) -> None:
    net = load_checkpoint(saved)
    with torch.no_grad():
        net.model.norm.weight[0] += 1e-6
    save_checkpoint(net, tmp_path / "other")
    assert checkpoint_sha256(tmp_path / "other") != checkpoint_sha256(saved)


@pytest.mark.parametrize("damage", ["missing", "extra", "shape", "truncated"])
def test_what_does_not_fit_is_named(saved: Path, damage: str) -> None:
    tensors, file = load_file(saved / "model.safetensors"), saved / "model.safetensors"
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    if damage == "missing":
        del tensors[name]
    elif damage == "extra":
        name = "model.layers.1.mlp.experts.99.up_proj.weight"
        tensors[name] = torch.zeros(2)
    else:
        tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, file)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
        name = "model.safetensors"
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_checkpoint(saved)


def test_mtp_is_counted_by_tensors_and_not_by_the_flag(tmp_path: Path) -> None:
    save_checkpoint(random_network(), tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text()) | {"num_nextn_predict_layers": 1}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    assert len(load_checkpoint(tmp_path / "base").mtp) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM"),
        ({"index_n_heads": 64}, "index_n_heads"),
        ({"n_group": 3}, "n_group must divide"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "longrope"),
        ({"kv_lora_rank": None}, "kv_lora_rank"),
    ],
)
def test_another_network_is_refused(saved: Path, change: dict[str, object], message: str) -> None:
    config = json.loads((saved / "config.json").read_text()) | change
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        load_checkpoint(saved)


def test_legacy_hub_fields_mean_the_same(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32, "mscale": 1.0, "mscale_all_dim": 1.0}
    modern = config | {"rope_parameters": {"rope_type": "yarn", "rope_theta": 500.0, **yarn}}
    legacy = {k: v for k, v in config.items() if k != "rope_parameters"} | {"rope_theta": 500.0, "rope_scaling": {"type": "yarn", **yarn}}
    nets = []
    for content in (modern, legacy):
        (saved / "config.json").write_text(json.dumps(content))
        nets.append(load_checkpoint(saved)(random_tokens(10, 1, 16)).logits)
    assert torch.equal(*nets)


def test_nothing_is_overwritten(saved: Path) -> None:
    with pytest.raises(ModelError, match="not empty"):
        save_checkpoint(random_network(), saved)
