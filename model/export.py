"""From a released adapter and its base to a network, or to a Hugging Face directory with the adapter merged in."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from model.adapters import attach_adapters, load_adapter, merge_adapters
from model.checkpoint import load_checkpoint, save_checkpoint
from model.errors import ReleaseError
from model.fingerprint import checkpoint_sha256
from model.release import Release, base_directory, is_release, read_release
from model.transformer import DeepseekV3

BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


def open_model(path: Path, base: Path | None = None, dtype: torch.dtype = torch.float32) -> tuple[DeepseekV3, Path]:
    """A plain network from a version's directory, a checkpoint or a bundled base's name, and the directory of its tokenizer.

    A release is merged in float32 and rounded to ``dtype`` once.

    Raises:
        ReleaseError, CheckpointError, ConfigError: what is there does not fit.
    """
    if not is_release(path):
        directory = base_directory(path)
        return load_checkpoint(directory, dtype=dtype), directory
    release = read_release(path)
    directory = _own_base(release, base)
    net = load_checkpoint(directory, dtype=torch.float32)
    attach_adapters(net, release.adapter, release.experts)
    load_adapter(net, release.tensors)
    merge_adapters(net)
    return net.to(dtype), path if (path / "tokenizer.json").is_file() else directory


def export_release(path: Path, out: Path, base: Path | None = None, dtype: torch.dtype = torch.float32) -> None:
    """Writes the merged model as transformers reads it, tokenizer included.

    Raises:
        ReleaseError, CheckpointError, ConfigError: the release, its base or ``out`` does not fit; nothing is written.
    """
    if not is_release(path):
        raise ReleaseError(f"{path} is no released model: give a version's directory, the one with manifest.json.")
    net, tokenizer = open_model(path, base, dtype)
    save_checkpoint(net, out)
    folders = (tokenizer, _own_base(read_release(path), base))
    for name in BESIDE:
        source = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if source:
            shutil.copyfile(source, out / name)


def _own_base(release: Release, base: Path | None) -> Path:
    directory = base_directory(base or release.base_name)
    found = checkpoint_sha256(directory)
    if found != release.base_sha256:
        raise ReleaseError(
            f"{directory} is not the base of {release.name} {release.version}: its hash is {found[:12]}…, "
            f"the release needs {release.base_sha256[:12]}…; give --base PATH."
        )
    return directory
