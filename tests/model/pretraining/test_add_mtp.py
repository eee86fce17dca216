"""Modules for a base that has none: trained on text, the base bit for bit as it was, the same bytes twice."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from model.bases import bundled_base
from model.checkpoint.fingerprint import checkpoint_sha256
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.cli import app
from model.errors import CheckpointError, RecipeError
from model.layers import rotation
from model.mtp import MTPModule
from model.pretraining.modules import ModuleTraining, add_mtp, attach_modules, draft_acceptance, train_modules
from model.pretraining.text import cut_windows, read_texts, window_batches
from model.text.tokenizer import load_tokenizer
from tests.model.checkpoint.stored import to_fp8
from tests.model.configurations import DEEPSEEK_V2, random_network, random_tokens

SHORT = ModuleTraining(steps=3, tokens_per_step=64, window=32)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random base in bfloat16 with the bundled vocabulary."""
    out = tmp_path_factory.mktemp("base") / "base"
    net = random_network(vocab_size=4096, tie_word_embeddings=True)
    for parameter in net.parameters():
        parameter.data = parameter.data.bfloat16()
    save_checkpoint(net, out)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (out / name).write_bytes((bundled_base("tiny") / name).read_bytes())
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    words = random.Random(0).choices(("the", "harbour", "was", "quiet", "and", "ships", "lay", "there"), k=600)
    (folder / "a.txt").write_text(" ".join(words[:300]), encoding="utf-8")
    records = [{"split": "train", "text": " ".join(words[300:])}, {"split": "test", "text": "Never read."}, {"text": "No split."}]
    (folder / "b.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("fp8", [False, True])
def test_the_base_keeps_type_and_bits_and_gets_modules(fp8: bool, base: Path, data: Path, tmp_path: Path) -> None:
    if fp8:
        base = Path(shutil.copytree(base, tmp_path / "fp8"))
        to_fp8(base, lambda name: "_proj" in name and "kv_a" not in name)
    added = add_mtp(base, tmp_path / "out", data, replace(SHORT, modules=2))
    old, new = load_file(base / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in old.items():
        assert new[name].dtype == tensor.dtype and torch.equal(new[name], tensor), name
    fresh = {name: tensor for name, tensor in new.items() if name not in old}
    assert {name.split(".")[2] for name in fresh} == {"3", "4"}
    assert any(tensor.dtype == torch.float8_e4m3fn for tensor in old.values()) == fp8
    assert all(tensor.dtype == torch.bfloat16 for name, tensor in fresh.items() if not name.endswith("correction_bias"))
    assert added.sha256 == checkpoint_sha256(tmp_path / "out") != checkpoint_sha256(base)
    assert len(added.acceptance_before) == len(added.acceptance_after) == 2
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    net = load_checkpoint(tmp_path / "out", dtype=torch.float32)
    tokens = random_tokens(1, 2, 8)
    assert torch.equal(net.generate(tokens, 6, speculative=True, draft_tokens=2), net.generate(tokens, 6))


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(base: Path, data: Path, tmp_path: Path) -> None:
    hashes = [add_mtp(base, tmp_path / str(i), data, replace(SHORT, seed=seed)).sha256 for i, seed in enumerate((0, 0, 1))]
    assert hashes[0] == hashes[1] != hashes[2]
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in "01"]
    assert files[0] == files[1]


@pytest.mark.parametrize("dense", [False, True])
def test_training_teaches_the_module_the_base_s_own_tokens(dense: bool) -> None:
    net = random_network(vocab_size=12, initializer_range=0.08, first_k_dense_replace=3 if dense else 1)
    windows = torch.randint(0, 12, (500, 16), generator=torch.Generator().manual_seed(1))
    attach_modules(net, 1, torch.Generator().manual_seed(0))
    before = draft_acceptance(net, windows[:40])[0]
    train_modules(net, window_batches(windows[40:], 16, random.Random(0)), ModuleTraining(steps=60, learning_rate=1e-2))
    assert draft_acceptance(net, windows[:40])[0] > before + 0.15


def test_the_fresh_module_is_the_last_layer_once_more() -> None:
    net, tokens = random_network(), random_tokens(2, 2, 9)
    attach_modules(net, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = [net.hidden(tokens).main, *net.hidden(tokens).mtp]
        for before, after, module in zip(states, states[1:], net.mtp, strict=False):
            turn = rotation(net.config, torch.arange(after.shape[1])[None], torch.float32)
            once_more = net.model.layers[-1](cast(MTPModule, module).hnorm(before[:, :-1]), turn, None, None)[0]
            assert torch.allclose(net.model.norm(once_more), after, atol=1e-4)


def test_the_base_keeps_no_graph_and_gets_no_gradient() -> None:
    net, tokens = random_network(), random_tokens(3, 2, 12)
    attach_modules(net, 1, torch.Generator().manual_seed(0))
    net.requires_grad_(False)
    net.mtp.requires_grad_(True)
    assert net.hidden(tokens).main.grad_fn is None
    loss = net.loss(tokens, tokens)
    assert loss.main.grad_fn is None and loss.mtp.grad_fn is not None
    loss.total.backward()
    assert {name for name, parameter in net.named_parameters() if parameter.grad is not None} <= {
        name for name, _ in net.named_parameters() if name.startswith("mtp.")
    }


def test_routing_biases_of_the_base_do_not_move() -> None:
    net = random_network()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    attach_modules(net, 1, torch.Generator().manual_seed(0))
    train_modules(net, window_batches(random_tokens(4, 8, 16), 4, random.Random(0)), SHORT)
    assert all(torch.equal(dict(net.named_buffers())[name], buffer) for name, buffer in before.items())


def test_windows_hold_every_token_once_and_only_train_lines(data: Path) -> None:
    tokenizer, texts = load_tokenizer(bundled_base("tiny")), list(read_texts(data))
    assert len(texts) == 3 and not any("Never" in text for text in texts)
    windows = cut_windows(texts, tokenizer, 16)
    ids = [token for text in texts for token in (*tokenizer.encode(text), tokenizer.eos_token_id)]
    rows = [tuple(row.tolist()) for part in (windows.training, windows.held_out) for row in part]
    assert sorted(rows) == sorted(tuple(ids[i : i + 16]) for i in range(0, len(ids) - 15, 16))
    assert len(windows.held_out) == -(-len(rows) // 20)
    epoch = [
        row
        for batch in islice(window_batches(windows.training, 4, random.Random(0)), -(-len(windows.training) // 4))
        for row in batch.input_ids
    ]
    assert sorted(map(tuple, map(torch.Tensor.tolist, epoch))) == sorted(tuple(row.tolist()) for row in windows.training)


def test_a_base_with_modules_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has 1 MTP module\(s\) already"):
        add_mtp(bundled_base("tiny"), tmp_path / "out", data, SHORT)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_trained_on_is_told_before_a_weight_is_read(base: Path, data: Path, tmp_path: Path) -> None:
    save_checkpoint(random_network(**DEEPSEEK_V2), tmp_path / "v2")
    for at, text, settings, error, sentence in (
        (tmp_path / "v2", data, SHORT, CheckpointError, "DeepSeek-V2 has no place for MTP modules"),
        (base, data, replace(SHORT, window=10**6), CheckpointError, "give a --window of at most 256"),
        (base, data / "a.txt", SHORT, RecipeError, "a.txt is a file: give its folder"),
        (base, data / "none", SHORT, RecipeError, "none is no folder"),
    ):
        with pytest.raises(error, match=sentence):
            add_mtp(at, tmp_path / "out", text, settings)
    assert not (tmp_path / "out").exists()


def test_an_existing_directory_is_left_alone(base: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "keep").write_text("mine")
    with pytest.raises(CheckpointError, match="is not empty"):
        add_mtp(base, tmp_path / "out", data, SHORT)
    assert (tmp_path / "out" / "keep").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (None, b"", "holds no text"),
        ("a.txt", b"Too short.", "needed at least"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", b'{"text": "fine"}\n{"body": 1}\n', "line 2"),
        ("a.jsonl", b"[]\n", "line 1"),
    ],
)
def test_unusable_text_is_named(base: Path, tmp_path: Path, name: str | None, content: bytes, sentence: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    if name:
        (folder / name).write_bytes(content)
    with pytest.raises(RecipeError, match=sentence):
        add_mtp(base, tmp_path / "out", folder, SHORT)
    assert not (tmp_path / "out").exists()


def test_the_command_reports_acceptance_and_hash(base: Path, data: Path, tmp_path: Path) -> None:
    options = ["--data", str(data), "--steps", "2", "--tokens-per-step", "64", "--window", "32", "--json"]
    result = CliRunner().invoke(app, ["add-mtp", str(base), str(tmp_path / "out"), *options])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["sha256"] == checkpoint_sha256(tmp_path / "out")
    assert set(document) == {"schema", "path", "sha256", "acceptance_before", "acceptance_after"}


def test_the_command_says_first_that_drafting_works(base: Path, data: Path, tmp_path: Path) -> None:
    options = ["--data", str(data), "--steps", "2", "--tokens-per-step", "64", "--window", "32"]
    lines = CliRunner().invoke(app, ["add-mtp", str(base), str(tmp_path / "out"), *options]).stdout.splitlines()
    assert lines[:2] == [f"drafting works: {tmp_path / 'out'}", f"sha256 {checkpoint_sha256(tmp_path / 'out')}"]
    assert CliRunner().invoke(app, ["add-mtp", str(base), str(tmp_path / "more"), *options, "--modules", "5"]).exit_code == 2
