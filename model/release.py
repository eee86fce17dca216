"""A released model version as it lies on disk: an adapter, what it was trained on, and the base it belongs to. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from model.bases import bundled_base, bundled_names
from model.errors import ReleaseError
from model.layout import AdapterConfig

PEFT_PREFIX = "base_model.model."
TENSORS_FILE, _PLAN = "adapter_model.safetensors", "plan.json"
_NEEDED = {TENSORS_FILE, _PLAN}


class _Base(BaseModel):
    name: str
    sha256: str


class _Manifest(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    version: int
    base: _Base
    experts: dict[int, tuple[int, ...]]
    files: dict[str, str]  # name -> SHA-256


class _Plan(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    trainable: AdapterConfig


@dataclass(frozen=True, slots=True)
class Release:
    """The parts of a version's directory that its use needs; its signature is `coordinator verify`'s concern."""

    directory: Path
    name: str
    version: int
    base_name: str
    base_sha256: str
    adapter: AdapterConfig
    experts: Mapping[int, tuple[int, ...]]
    tensors: Mapping[str, NDArray[np.float32]]  # by the names of model.layout


def is_release(directory: Path) -> bool:
    """Whether the directory holds a released adapter, and not a whole checkpoint."""
    return (directory / "manifest.json").is_file()


def read_release(directory: Path) -> Release:
    """Reads a version; every file must have the hash that the manifest gives.

    Raises:
        ReleaseError: a file is missing, changed, or not what a release holds.
    """
    try:
        manifest = _Manifest.model_validate_json((directory / "manifest.json").read_bytes())
        for name in sorted(_NEEDED | manifest.files.keys()):
            _check_hash(directory / Path(name).name, manifest.files.get(name))
        stored = load((directory / TENSORS_FILE).read_bytes())
        plan = _Plan.model_validate_json((directory / _PLAN).read_bytes())
    except OSError as error:
        raise ReleaseError(f"{directory} is no released model: {error.filename} cannot be read; give a version's directory.") from None
    except ValidationError as error:
        field, fault = ".".join(map(str, error.errors()[0]["loc"])), error.errors()[0]["msg"]
        raise ReleaseError(f"{directory} is not a release that this version reads ({field[:80]}: {fault}): fetch it again.") from None
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ReleaseError(f"{directory} is not a release that this version reads ({error!r}): fetch it again.") from None
    tensors = {name.removeprefix(PEFT_PREFIX): values for name, values in stored.items()}
    base = manifest.base
    return Release(directory, manifest.name, manifest.version, base.name, base.sha256, plan.trainable, manifest.experts, tensors)


def is_base(name: str | Path) -> bool:
    """Whether `base_directory` finds one."""
    return str(name) in bundled_names() or (Path(name) / "config.json").is_file()


def base_directory(name: str | Path) -> Path:
    """The directory of a base: a bundled base's name, or a checkpoint directory itself.

    Raises:
        ReleaseError: it is neither.
    """
    if str(name) in bundled_names():
        return bundled_base(str(name))
    if is_base(name):
        return Path(name)
    raise ReleaseError(_no_base(Path(name)))


def _no_base(path: Path) -> str:
    if path.is_file():
        return f"{path} is a file: give its directory."
    if (path / "adapter_config.json").is_file():
        return f"{path} holds a peft adapter and no checkpoint: generate, chat and export read it with --base."
    if path.is_dir():
        return f"{path} holds no config.json: give the directory of a Hugging Face checkpoint."
    return f"Base {path} is neither bundled ({', '.join(bundled_names())}) nor a directory: give one of those names or a checkpoint's path."


def _check_hash(path: Path, digest: str | None) -> None:
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise ReleaseError(f"{path} is not the file that was released (its hash differs from the manifest's): fetch it again.")
