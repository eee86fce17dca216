"""Checkpoints: types, shards, hash, and the configurations that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint.fingerprint import checkpoint_sha256
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.errors import ConfigError, ModelError
from tests.model.configurations import random_network, random_tokens


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(random_network(num_nextn_predict_layers=1), tmp_path / "base")
    return tmp_path / "base"


def test_the_stored_type_is_kept_unless_another_is_asked_for(tmp_path: Path) -> None:
    save_checkpoint(random_network().to(torch.bfloat16), tmp_path / "bf16")
    assert load_checkpoint(tmp_path / "bf16").lm_head.weight.dtype == torch.bfloat16
    assert load_checkpoint(tmp_path / "bf16", dtype=torch.float32).lm_head.weight.dtype == torch.float32


def test_each_tensor_keeps_its_own_type(tmp_path: Path) -> None:
    net = random_network()
    net.model.layers[0].bfloat16()
    net.model.layers[1].mlp.half()
    save_checkpoint(net, tmp_path / "mixed")
    loaded = load_checkpoint(tmp_path / "mixed")
    assert {name: tensor.dtype for name, tensor in loaded.state_dict().items()} == {n: t.dtype for n, t in net.state_dict().items()}
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in loaded.state_dict().items())


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
