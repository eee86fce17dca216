"""A released model version as it lies on disk: an adapter, what it was trained on, and the base it belongs to. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from model.bases import bundled_base, bundled_names
from model.errors import ReleaseError
from model.layout import AdapterConfig

_PEFT_PREFIX = "base_model.model."


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
        manifest = _json(directory / "manifest.json")
        for name, digest in manifest["files"].items():
            _check_hash(directory / Path(name).name, digest)
        stored = load((directory / "adapter_model.safetensors").read_bytes())
        return Release(
            directory,
            manifest["name"],
            manifest["version"],
            manifest["base"]["name"],
            manifest["base"]["sha256"],
            AdapterConfig.from_fields(_json(directory / "plan.json")["trainable"]),
            {int(layer): tuple(chosen) for layer, chosen in manifest["experts"].items()},
            {name.removeprefix(_PEFT_PREFIX): values for name, values in stored.items()},
        )
    except OSError as error:
        raise ReleaseError(f"{directory} is no released model: {error.filename} cannot be read; give a version's directory.") from None
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise ReleaseError(f"{directory} is not a release that this version reads ({error!r}): fetch it again.") from None


def base_directory(name: str | Path) -> Path:
    """The directory of a base: a bundled base's name, or a checkpoint directory itself.

    Raises:
        ReleaseError: it is neither.
    """
    if str(name) in bundled_names():
        return bundled_base(str(name))
    if (Path(name) / "config.json").is_file():
        return Path(name)
    raise ReleaseError(
        f"Base {name} is neither bundled ({', '.join(bundled_names())}) nor a checkpoint directory: give one of those names or such a path."
    )


def _check_hash(path: Path, digest: str) -> None:
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise ReleaseError(f"{path} is not the file that was released (its hash differs from the manifest's): fetch it again.")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
