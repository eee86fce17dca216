"""A directory that holds an adapter as peft saves it: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.numpy import save
from safetensors.torch import load

from model.config import ModelConfig
from model.errors import ReleaseError
from model.layout import AdapterError
from model.peft.layout import PeftAdapter
from model.peft.reading import TrainedAdapter, from_peft

CONFIG_FILE, TENSOR_FILE = "adapter_config.json", "adapter_model.safetensors"


def is_peft_adapter(directory: Path) -> bool:
    """Whether the directory holds an adapter of peft's; a release, which has these files too, is asked for first."""
    return (directory / CONFIG_FILE).is_file()


def read_peft_adapter(directory: Path, config: ModelConfig) -> TrainedAdapter:
    """Reads an adapter of the network that `config` describes; factors in other types become float32.

    Raises:
        ReleaseError: a file cannot be read.
        AdapterError: the adapter is not plain LoRA on this network.
    """
    try:
        content = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        stored = load((directory / TENSOR_FILE).read_bytes())
    except OSError as error:
        raise ReleaseError(f"{error.filename} cannot be read: save the adapter with peft as safetensors.") from None
    except (ValueError, RecursionError, SafetensorError) as error:
        raise ReleaseError(f"{directory} holds no adapter that peft has saved ({error}): save it again.") from None
    if not isinstance(content, dict):
        raise ReleaseError(f"{directory / CONFIG_FILE} holds no JSON object: save the adapter again.")
    try:
        return from_peft(config, content, {name: values.to(torch.float32).numpy() for name, values in stored.items()})
    except AdapterError as error:
        raise AdapterError(f"{directory}: {error}") from None


def write_peft_adapter(adapter: PeftAdapter, out: Path, base_name: str) -> None:
    """Writes the directory; it appears whole or not at all.

    Raises:
        ReleaseError: the path exists and is not an empty directory, or lies below a file.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ReleaseError(f"{out} is {'not empty' if out.is_dir() else 'a file'}: give a new directory.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ReleaseError(f"{out} lies below a file: give a new directory.") from None
    config = json.dumps(adapter.config | {"base_model_name_or_path": base_name}, indent=2, sort_keys=True) + "\n"
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        _write(draft / CONFIG_FILE, config.encode())
        _write(draft / TENSOR_FILE, save(adapter.tensors, metadata={"format": "pt"}))
        draft.chmod(0o755)
        draft.rename(out)
        _sync(out)
        _sync(out.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
