"""From an adapter and its base to a network, to a Hugging Face directory with the adapter merged in, or to peft's files."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from model.adapters import attach_adapters, load_adapter, merge_adapters
from model.checkpoint.fingerprint import checkpoint_sha256
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import write_checkpoint
from model.config import read_config
from model.errors import CheckpointError, ReleaseError
from model.layout import adapter_layout, check_state
from model.new_directory import new_directory
from model.peft.files import is_peft_adapter, read_peft_adapter, write_peft_adapter
from model.peft.layout import PeftAdapter, to_peft
from model.release import Release, base_directory, is_release, read_release
from model.transformer import DeepseekV3

BESIDE = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "generation_config.json")


def open_model(path: Path, base: Path | None = None, dtype: torch.dtype = torch.float32) -> tuple[DeepseekV3, Path]:
    """A plain network from a version's directory, a peft adapter's, a checkpoint or a bundled base's name; and its tokenizer's directory.

    An adapter is merged in float32 and rounded to ``dtype`` once. peft's own needs ``base``.

    Raises:
        ReleaseError, AdapterError, CheckpointError, ConfigError: what is there does not fit.
    """
    if not (is_release(path) or is_peft_adapter(path)):
        directory = base_directory(path)
        return load_checkpoint(directory, dtype=dtype), directory
    directory = _base_of(path, base)
    net = load_checkpoint(directory, dtype=torch.float32)
    trained = read_release(path) if is_release(path) else read_peft_adapter(path, net.config)
    # Before room is made for tensors of any size.
    check_state(adapter_layout(net.config, trained.adapter, trained.experts), trained.tensors)
    attach_adapters(net, trained.adapter, trained.experts)
    load_adapter(net, trained.tensors)
    merge_adapters(net)
    return net.to(dtype), path if (path / "tokenizer.json").is_file() else directory


def export_release(path: Path, out: Path, base: Path | None = None, dtype: torch.dtype = torch.float32) -> None:
    """Writes a release, or a peft adapter, merged into its base as transformers reads it, tokenizer included.

    Raises:
        ReleaseError, AdapterError, CheckpointError, ConfigError: the adapter, its base or ``out`` does not fit; nothing is written.
    """
    if not (is_release(path) or is_peft_adapter(path)):
        raise ReleaseError(f"{path} is no released model: give a version's directory, the one with manifest.json.")
    with new_directory(out, CheckpointError) as draft:
        net, tokenizer = open_model(path, base, dtype)
        write_checkpoint(net, draft)
        folders = (tokenizer, _base_of(path, base))
        for name in BESIDE:
            source = next((folder / name for folder in folders if (folder / name).is_file()), None)
            if source:
                shutil.copyfile(source, draft / name)


def export_adapter(path: Path, out: Path, base: Path | None = None) -> PeftAdapter:
    """Writes a release's adapter alone, for `PeftModel.from_pretrained` on its base; gives back what was written.

    Raises:
        ReleaseError, ConfigError: the release, its base or ``out`` does not fit; nothing is written.
        AdapterError: peft has no form for the adapter without weights of the base; nothing is written.
    """
    if not is_release(path):
        raise ReleaseError(f"{path} is no released model: give a version's directory, the one with manifest.json.")
    release = read_release(path)
    config = read_config(_own_base(release, base))
    adapter = to_peft(config, release.adapter, release.experts, release.tensors)
    write_peft_adapter(adapter, out, release.base_name)
    return adapter


def _base_of(path: Path, base: Path | None) -> Path:
    if is_release(path):
        return _own_base(read_release(path), base)
    if base is None:
        raise ReleaseError(f"{path} holds a peft adapter, which is not bound to a base: give --base PATH.")
    return base_directory(base)


def _own_base(release: Release, base: Path | None) -> Path:
    directory = base_directory(base or release.base_name)
    found = checkpoint_sha256(directory)
    if found != release.base_sha256:
        raise ReleaseError(
            f"{directory} is not the base of {release.name} {release.version}: its hash is {found[:12]}…, "
            f"the release needs {release.base_sha256[:12]}…; give --base PATH."
        )
    return directory
