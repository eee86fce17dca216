"""What a newcomer gives by mistake is told apart: each sentence says what is there and what to give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from model.bases import bundled_base
from model.cli import app
from model.errors import ModelError
from tests.model.checkpoint.stored import write_shards

FILES = {
    "bare/readme.txt": "",
    "peft/adapter_config.json": "{}",
    "pickled/config.json": (bundled_base("tiny") / "config.json").read_text(),
    "pickled/pytorch_model.bin": "",
    "bpe/tokenizer.json": "{}",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("info bare/readme.txt", r"readme\.txt is a file: give its directory"),
        ("info bare", r"bare holds no config\.json"),
        ("info nowhere", "nowhere is neither bundled .* nor a directory"),
        ("info peft", "peft holds a peft adapter and no checkpoint: generate, chat and export read it with --base"),
        ("info pickled", "pytorch_model.bin, and only safetensors is read"),
        ("export tiny out", "tiny is neither a version's directory, .* nor a peft adapter's"),
        ("generate tiny --prompt a --base tiny", "leave --base out"),
        ("import nowhere", "nowhere is no directory"),
        ("import bare/readme.txt", r"readme\.txt is no directory"),
        ("import bpe", r"bpe has a tokenizer\.json already: nothing to import"),
    ],
)
def test_it_says_what_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, sentence: str) -> None:
    monkeypatch.chdir(folder)
    error = CliRunner().invoke(app, arguments.split()).exception
    assert isinstance(error, ModelError) and re.search(sentence, str(error))


def test_shards_without_their_index(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(FILES["pickled/config.json"])
    write_shards(tmp_path, [["a"], ["b"]], lambda _: torch.ones(1))
    (tmp_path / "model.safetensors.index.json").unlink()
    error = CliRunner().invoke(app, ["info", str(tmp_path)]).exception
    assert isinstance(error, ModelError) and "index.json is missing beside its shards" in str(error)


@pytest.mark.parametrize("command", ["info", "generate", "chat", "export", "import", "pretrain", "add-mtp"])
def test_every_argument_is_described(command: str) -> None:
    panel = CliRunner().invoke(app, [command, "--help"]).stdout.split("Options")[0].split("Arguments")[1]
    described = [line for line in panel.splitlines() if re.search(r"PATH\s+\w+", line)]
    assert len(described) == panel.count("PATH") > 0
