"""A directory that holds an adapter as peft saves it: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.numpy import save
from safetensors.torch import load

from model.config import ModelConfig
from model.errors import ReleaseError
from model.layout import AdapterError
from model.new_directory import new_directory
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
    config = json.dumps(adapter.config | {"base_model_name_or_path": base_name}, indent=2, sort_keys=True) + "\n"
    with new_directory(out, ReleaseError) as draft:
        (draft / CONFIG_FILE).write_text(config, encoding="utf-8")
        (draft / TENSOR_FILE).write_bytes(save(adapter.tensors, metadata={"format": "pt"}))
