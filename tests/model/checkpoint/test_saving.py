"""Saving: bit-equal on the way round in any number of shards, readable by transformers, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from model.checkpoint.fingerprint import checkpoint_sha256
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from tests.model.checkpoint.stored import to_fp8
from tests.model.configurations import random_network, random_tokens

SHARD = 20_000


def _contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.parametrize("max_bytes", [SHARD, 10**9])
@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_save_load_save_is_bit_equal_with_mtp_kept(tmp_path: Path, tied: bool, fp8: bool, max_bytes: int) -> None:
    save_checkpoint(random_network(num_nextn_predict_layers=2, tie_word_embeddings=tied), tmp_path / "stored")
    if fp8:
        to_fp8(tmp_path / "stored", lambda name: name.endswith("_proj.weight"))
    save_checkpoint(load_checkpoint(tmp_path / "stored"), tmp_path / "a", max_bytes)
    save_checkpoint(load_checkpoint(tmp_path / "a"), tmp_path / "b", max_bytes)
    assert _contents(tmp_path / "a") == _contents(tmp_path / "b")
    assert checkpoint_sha256(tmp_path / "a") == checkpoint_sha256(tmp_path / "stored")
    assert ("quantization_config" in json.loads((tmp_path / "a" / "config.json").read_text())) == fp8


def test_shards_are_named_indexed_and_filled_as_transformers_does(tmp_path: Path) -> None:
    save_checkpoint(random_network(num_nextn_predict_layers=1), tmp_path / "a", SHARD)
    index = json.loads((tmp_path / "a" / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 3
    assert files == [f"model-{number:05d}-of-{len(files):05d}.safetensors" for number in range(1, len(files) + 1)]
    total = 0
    for file in files:
        with safe_open(tmp_path / "a" / file, framework="pt") as stored:
            sizes = [stored.get_tensor(name).nbytes for name in stored.keys()]  # noqa: SIM118  not a mapping
        assert sum(sizes) <= SHARD or len(sizes) == 1
        total += sum(sizes)
    assert index["metadata"]["total_size"] == total


def test_transformers_reads_the_shards(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    net, tokens = random_network(), random_tokens(1, 2, 12)
    save_checkpoint(net, tmp_path / "a", SHARD)
    theirs = transformers.DeepseekV3ForCausalLM.from_pretrained(tmp_path / "a", dtype=torch.float32)
    torch.testing.assert_close(net(tokens).logits, theirs(tokens).logits)


def test_a_dequantised_network_is_saved_as_a_plain_one(tmp_path: Path) -> None:
    save_checkpoint(random_network(), tmp_path / "a")
    to_fp8(tmp_path / "a", lambda name: name.endswith("_proj.weight"))
    save_checkpoint(load_checkpoint(tmp_path / "a", torch.bfloat16), tmp_path / "b")
    assert "quantization_config" not in json.loads((tmp_path / "b" / "config.json").read_text())
    assert {parameter.dtype for parameter in load_checkpoint(tmp_path / "b").parameters()} == {torch.bfloat16}


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    net = random_network()
    net.config.extra["unwritable"] = object()  # type: ignore[index]
    with pytest.raises(TypeError):
        save_checkpoint(net, tmp_path / "a", SHARD)
    assert list(tmp_path.iterdir()) == []
