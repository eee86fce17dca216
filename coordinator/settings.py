"""The coordinator's settings, from `coordinator.toml` in the current folder; without the file, the defaults."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coordinator.errors import SettingsError
from protocols.validation import first_problem


class CoordinatorSettings(BaseModel):
    """Every key may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    registry: str = Field("registry.db", min_length=1, description="path of the registry, or a SQLAlchemy URL")
    models: str = Field("models", min_length=1, description="folder of released models; a path is relative to the registry's file")

    runs: str = Field("runs", min_length=1, description="folder of the runs' own files; a path is relative to the registry's file")

    def runs_folder(self, registry: str) -> Path:
        """Where states and transcripts of a registry's runs lie, found as `models_folder` is."""
        return _beside(registry) / self.runs

    def models_folder(self, registry: str) -> Path:
        """Where the models of a registry lie: beside its file, or for a URL below the current folder."""
        return _beside(registry) / self.models


def _beside(registry: str) -> Path:
    return Path() if "://" in registry else Path(registry).parent


def load_settings(path: Path = Path("coordinator.toml")) -> CoordinatorSettings:
    """Reads the settings.

    Raises:
        SettingsError: the file is there but cannot be read, or holds a key that is not known.
    """
    if not path.exists():
        return CoordinatorSettings()
    try:
        return CoordinatorSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        cause = first_problem(error, CoordinatorSettings) if isinstance(error, ValidationError) else f"cannot be read: {error}"
        raise SettingsError(f"{path}: {cause}") from None
