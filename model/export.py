"""From an adapter and its base to a network, to a Hugging Face directory with the adapter merged in, or to peft's files."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from model.adapters import attach_adapters, load_adapter, merge_adapters
from model.checkpoint.fingerprint import checkpoint_sha256
from model.checkpoint.headers import read_headers
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.room import room_for
from model.checkpoint.saving import write_checkpoint
from model.config import read_config
from model.errors import CheckpointError, ReleaseError
from model.layout import adapter_layout, check_state
from model.new_directory import new_directory, refuse_occupied
from model.peft.files import is_peft_adapter, read_peft_adapter, write_peft_adapter
from model.peft.layout import PeftAdapter, to_peft
from model.release import Release, base_directory, is_base, is_release, read_release
from model.transformer import DeepseekV3

_BESIDE = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "generation_config.json")


def open_model(
    path: Path, base: Path | None = None, dtype: torch.dtype | None = torch.float32, device: str = "cpu"
) -> tuple[DeepseekV3, Path]:
    """A plain network from a version's directory, a peft adapter's, a checkpoint or a bundled base's name; and its tokenizer's directory.

    An adapter is merged in float32 and rounded to ``dtype`` once; None keeps the stored types. peft's own needs ``base``.

    Raises:
        ReleaseError, AdapterError, CheckpointError, ConfigError: what is there does not fit.
    """
    if not (is_release(path) or is_peft_adapter(path)):
        directory = base_directory(path)
        if base is not None:
            raise ReleaseError(f"{path} is a whole model, and --base is for a release or a peft adapter: leave --base out.")
        with room_for(directory, dtype):
            return load_checkpoint(directory, dtype, device), directory
    directory = _base_of(path, base)
    with room_for(directory, dtype):
        return _merged(path, directory, dtype, device), path if (path / "tokenizer.json").is_file() else directory


def _merged(path: Path, directory: Path, dtype: torch.dtype | None, device: str) -> DeepseekV3:
    """The base in `directory` with the adapter in `path` merged in."""
    net = load_checkpoint(directory, None if dtype is None or _is_stored_in(directory, dtype) else torch.float32, device)
    trained = read_release(path) if is_release(path) else read_peft_adapter(path, net.config)
    # Before room is made for tensors of any size.
    check_state(adapter_layout(net.config, trained.adapter, trained.experts), trained.tensors)
    attach_adapters(net, trained.adapter, trained.experts)
    load_adapter(net, trained.tensors)
    merge_adapters(net)
    return net if dtype is None else net.to(dtype)


def _is_stored_in(directory: Path, dtype: torch.dtype) -> bool:
    """Whether all of a checkpoint that is narrower than float32 is of that type: merging weight by weight then rounds once too."""
    return {tensor.dtype for tensor in read_headers(directory).values()} <= {"F32", "BF16" if dtype == torch.bfloat16 else "F32"}


def export_release(path: Path, out: Path, base: Path | None = None, dtype: torch.dtype = torch.float32) -> None:
    """Writes a release, or a peft adapter, merged into its base as transformers reads it, tokenizer included.

    Raises:
        ReleaseError, AdapterError, CheckpointError, ConfigError: the adapter, its base or ``out`` does not fit; nothing is written.
    """
    if not (is_release(path) or is_peft_adapter(path)):
        raise ReleaseError(f"{path} is neither a version's directory, the one with manifest.json, nor a peft adapter's: give one of them.")
    refuse_occupied(out, CheckpointError)
    net, tokenizer = open_model(path, base, dtype)
    with new_directory(out, CheckpointError) as draft:
        write_checkpoint(net, draft)
        copy_beside(draft, tokenizer, _base_of(path, base))


def copy_beside(draft: Path, *sources: Path) -> None:
    """Copies tokenizer, template and generation settings into a new checkpoint, each from the first directory that has it."""
    for name in _BESIDE:
        source = next((folder / name for folder in sources if (folder / name).is_file()), None)
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
    named, name = f"{release.name} {release.version}", release.base_name
    if base is None and not is_base(name):
        raise ReleaseError(f"Release {named} was trained on {name}, which is not here: give --base PATH.")
    directory = base_directory(base or name)
    found = checkpoint_sha256(directory)
    if found != release.base_sha256:
        remedy = "give --base PATH" if base is None else f"give the directory that holds {name}, as `consortium model info` hashes it"
        raise ReleaseError(
            f"{directory} is not the base of {named}, which was trained on {name}: its hash is {found[:12]}…, "
            f"and {release.base_sha256[:12]}… is needed; {remedy}."
        )
    return directory
