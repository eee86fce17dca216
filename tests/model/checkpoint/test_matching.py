"""A checkpoint that does not fit is refused with the tensor's or the file's name, before any weight is read."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.errors import CheckpointError
from tests.model.checkpoint.stored import edit_config, edit_tensors, to_fp8, write_shards
from tests.model.configurations import random_network

EXPERT = "model.layers.1.mlp.experts.3.up_proj.weight"
NORM = "model.norm.weight"
DENSE = "model.layers.0.mlp.gate_proj.weight"
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
Tensors = dict[str, Tensor]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(random_network(num_nextn_predict_layers=1), tmp_path / "base")
    return tmp_path / "base"


def _refusal(directory: Path, dtype: torch.dtype | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(directory, dtype)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop(EXPERT), f"{EXPERT} is missing"),
        (lambda t: t.update({EXPERT.replace(".3.", ".99."): torch.zeros(2)}), "experts.99.up_proj.weight has no place"),
        (lambda t: t.update({EXPERT: t[EXPERT][:-1].clone()}), f"{EXPERT} has shape [15, 32], but config.json asks for [16, 32]"),
        (lambda t: t.update({EXPERT: t[EXPERT].long()}), f"{EXPERT} is stored as I64"),
        (lambda t: t.update({EXPERT: t[EXPERT].bfloat16()}), f"{EXPERT} is stored as BF16 and model.layers.1.mlp.experts.0.gate_proj"),
        (lambda t: t["model.layers.3.embed_tokens.weight"].mul_(2), "layers.3.embed_tokens.weight differs from model.embed_tokens.weight"),
        (lambda t: t["model.layers.3.shared_head.head.weight"][-1].zero_(), "layers.3.shared_head.head.weight differs from lm_head.weight"),
        (
            lambda t: t.update({"model.norm.weight": t["model.norm.weight"].to(torch.float8_e4m3fn)}),
            "model.norm.weight is stored as F8_E4M3",
        ),
        (lambda t: t.update({DENSE: t[DENSE].to(torch.float8_e8m0fnu)}), f"{DENSE} is stored as F8_E8M0"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(saved: Path, change: Callable[[Tensors], object], sentence: str) -> None:
    edit_tensors(saved, change)
    assert sentence in _refusal(saved)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop(DENSE + "_scale_inv"), f"{DENSE} is stored as FP8, but its scales {DENSE}_scale_inv are missing"),
        (lambda t: t.update({DENSE: t[DENSE].float()}), f"{DENSE}_scale_inv scales {DENSE}, which is stored as F32"),
        (lambda t: t.update({DENSE + "_scale_inv": torch.ones(2, 1)}), f"{DENSE}_scale_inv has shape [2, 1], but"),
        (lambda t: t.update({DENSE + "_scale_inv": torch.ones(1, 1).half()}), f"{DENSE}_scale_inv is stored as F16"),
        (lambda t: t.update({"model.norm.weight_scale_inv": torch.ones(1)}), "model.norm.weight_scale_inv scales model.norm.weight"),
    ],
)
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_scales_belong_to_fp8_weights(saved: Path, change: Callable[[Tensors], object], sentence: str, dtype: torch.dtype | None) -> None:
    to_fp8(saved, lambda name: name.endswith("_proj.weight"))
    edit_tensors(saved, change)
    assert sentence in _refusal(saved, dtype)


def test_experts_are_all_held_in_fp8_or_none(saved: Path) -> None:
    to_fp8(saved, lambda name: name == EXPERT)
    assert f"{EXPERT} is stored as F8_E4M3" in _refusal(saved)
    load_checkpoint(saved, torch.float32)


def test_refusal_comes_before_any_weight_is_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_tensors(saved, lambda tensors: tensors.pop("model.layers.2.input_layernorm.weight"))
    monkeypatch.setattr("model.checkpoint.loading._read", lambda *_: pytest.fail("a weight was read"))
    assert "model.layers.2.input_layernorm.weight is missing" in _refusal(saved)


def _header(file: Path) -> tuple[dict[str, dict[str, object]], bytes]:
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _write_header(file: Path, header: bytes, body: bytes) -> None:
    file.write_bytes(struct.pack("<Q", len(header)) + header + body)


@pytest.mark.parametrize("kept", [0, 5, 100])
def test_a_truncated_header(saved: Path, kept: int) -> None:
    (saved / FILE).write_bytes((saved / FILE).read_bytes()[:kept])
    assert f"{FILE} is truncated" in _refusal(saved)


def test_a_truncated_body(saved: Path) -> None:
    (saved / FILE).write_bytes((saved / FILE).read_bytes()[:-100])
    assert re.search(rf"{FILE} is truncated within model\.", _refusal(saved))


def test_a_file_of_another_kind(saved: Path) -> None:
    (saved / FILE).write_bytes(struct.pack("<Q", 4) + b"PK\x03\x04" + b"\0" * 100)
    assert "not a safetensors file" in _refusal(saved)
    (saved / FILE).unlink()
    assert f"{FILE} is missing" in _refusal(saved)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"data_offsets": [0, 4]}, f"gives tensor {DENSE} 4 bytes"),
        ({"data_offsets": [-8, 6136]}, f"tensor {DENSE}"),
        ({"data_offsets": ["0", "6144"]}, f"no type, shape and offsets for tensor {DENSE}"),
        ({"data_offsets": [0, 2**70]}, f"gives tensor {DENSE} {2**70} bytes"),
        ({"shape": [float("inf"), 32]}, f"no type, shape and offsets for tensor {DENSE}"),
        ({"shape": [48.5, 32]}, f"no type, shape and offsets for tensor {DENSE}"),
        ({"data_offsets": None}, f"no type, shape and offsets for tensor {DENSE}"),
        ({"shape": "48"}, f"tensor {DENSE}"),
        ({"dtype": "F4"}, f"{DENSE} is stored as F4"),
    ],
)
def test_a_header_that_contradicts_itself(saved: Path, entry: dict[str, object], sentence: str) -> None:
    header, body = _header(saved / FILE)
    header[DENSE] |= entry
    _write_header(saved / FILE, json.dumps(header).encode(), body)
    assert sentence in _refusal(saved)


def test_tensors_that_share_their_bytes(saved: Path) -> None:
    """Otherwise a small file could ask for any amount of memory."""
    header, body = _header(saved / FILE)
    header[DENSE]["data_offsets"] = header[DENSE.replace("gate", "up")]["data_offsets"]
    _write_header(saved / FILE, json.dumps(header).encode(), body)
    assert f"stores {DENSE} and {DENSE.replace('gate', 'up')} in the same bytes" in _refusal(saved)


def test_a_header_that_would_fill_the_memory_is_not_read(saved: Path) -> None:
    with (saved / FILE).open("wb") as file:
        file.write(struct.pack("<Q", 2**40))
        file.truncate(2**40 + 8)  # a sparse file
    assert "not a safetensors file" in _refusal(saved)


@pytest.mark.parametrize("header", [b"[" * 200_000, b'{"a":' * 200_000])
def test_a_header_nested_beyond_reason(saved: Path, header: bytes) -> None:
    _write_header(saved / FILE, header, b"")
    assert "not a safetensors file" in _refusal(saved)


@pytest.mark.parametrize("name", ["\ud800", "a\x1b[2Jb", "a\nb"])
def test_a_name_that_is_no_text(saved: Path, name: str) -> None:
    header, body = _header(saved / FILE)
    header[name] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    _write_header(saved / FILE, json.dumps(header).encode(), body)
    assert f"names a tensor {name!a}, which is no text" in _refusal(saved)


@pytest.mark.parametrize("field", ["num_hidden_layers", "n_routed_experts"])
def test_sizes_that_no_file_holds_are_refused_before_a_network_is_laid_out(saved: Path, field: str) -> None:
    edit_config(saved, {field: 2**31 - 1})
    assert "more than the checkpoint's" in _refusal(saved)


@pytest.fixture
def sharded(saved: Path) -> Path:
    tensors = load_file(saved / FILE)
    (saved / FILE).unlink()
    names = sorted(tensors)
    write_shards(saved, [names[::2], names[1::2]], tensors.__getitem__)
    load_checkpoint(saved)
    return saved


def _edit_index(directory: Path, change: Callable[[dict[str, str]], object]) -> None:
    index = json.loads((directory / INDEX).read_text())
    change(index["weight_map"])
    (directory / INDEX).write_text(json.dumps(index))


def test_an_index_that_names_a_missing_file(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors is missing" in _refusal(sharded)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.pop(EXPERT), f"places tensor {EXPERT} nowhere, but it lies in model-0000"),
        (
            lambda m: m.update(ghost="model-00001-of-00002.safetensors"),
            "places tensor ghost in model-00001-of-00002.safetensors, but it lies in none",
        ),
        (lambda m: m.update({EXPERT: "../elsewhere"}), "names '../elsewhere', which is no file beside it"),
        (lambda m: m.update({EXPERT: "a\0b"}), r"names 'a\x00b', which is no file beside it"),
    ],
)
def test_an_index_that_says_otherwise_than_the_files(sharded: Path, change: Callable[[dict[str, str]], object], sentence: str) -> None:
    _edit_index(sharded, change)
    assert sentence in _refusal(sharded)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', "[" * 200_000])
def test_an_index_without_a_weight_map(sharded: Path, content: str) -> None:
    (sharded / INDEX).write_text(content)
    assert "has no weight_map" in _refusal(sharded)


def test_an_index_that_is_a_folder(saved: Path) -> None:
    (saved / INDEX).mkdir()
    assert "has no weight_map" in _refusal(saved)


def test_a_tensor_in_two_files(sharded: Path) -> None:
    for file in sorted(sharded.glob("*.safetensors")):
        save_file(load_file(file) | {EXPERT: torch.zeros(16, 32)}, file)
    assert f"{EXPERT} is stored in model-00001-of-00002.safetensors and in model-00002-of-00002.safetensors" in _refusal(sharded)
