"""The operator's folder: `coordinator.toml`, `identity.key`, the registry, and `tls/`; made once, then opened by every command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from coordinator.authority import Authority
from coordinator.errors import SettingsError
from coordinator.home import OPERATOR, operator_identity
from coordinator.registry import Registry
from coordinator.settings import CoordinatorSettings, load_settings, write_settings
from protocols.files import make_folder
from protocols.identity import Identity

SETTINGS = "coordinator.toml"
Clock = Callable[[], datetime]  # aware
Randomness = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class OperatorHome:
    """A folder that `make_operator_home` made, with its settings."""

    folder: Path
    settings: CoordinatorSettings

    @property
    def tls(self) -> Path:
        """The certificate authority, the server's certificate, and those that were issued."""
        return self.folder / "tls"

    @property
    def registry(self) -> str:
        """The registry's URL, or its path."""
        named = self.settings.registry
        return named if "://" in named else str(self.folder / named)

    @property
    def models(self) -> Path:
        """Folder of released models."""
        return self._beside / self.settings.models

    @property
    def runs(self) -> Path:
        """Folder of the runs' own files."""
        return self._beside / self.settings.runs

    @property
    def identity(self) -> Identity:
        """The key by which institutions know the operator's requests."""
        return Identity.load(OPERATOR, self.folder / "identity.key")

    def authority(self, clock: Clock, randomness: Randomness) -> Authority:
        """The certificate authority."""
        return Authority.open(self.tls, clock, randomness)

    def open_registry(self, clock: Clock, *, read_only: bool = False) -> Registry:
        """The registry; the caller closes it."""
        return Registry.open(self.registry, clock, read_only=read_only)

    def base_directory(self, name: str) -> Path:
        """Where the base's `config.json` lies.

        Raises:
            SettingsError: no directory is bound to the name.
        """
        if name not in self.settings.bases:
            raise SettingsError(f'{self.folder / SETTINGS} binds no directory to base "{name}"; add it to [bases]')
        return self.folder / self.settings.bases[name]

    @property
    def _beside(self) -> Path:
        return self.folder if "://" in self.registry else Path(self.registry).parent


def make_operator_home(folder: Path, settings: CoordinatorSettings, clock: Clock, randomness: Randomness) -> OperatorHome:
    """Makes keys, certificates and registry; the settings come last, so that an interrupted call can be repeated.

    Raises:
        SettingsError: the folder has an operator's home already; nothing was changed.
    """
    if (folder / SETTINGS).exists():
        raise SettingsError(f"{folder / SETTINGS} exists; this folder is an operator's home already, so choose another with --home")
    make_folder(folder, 0o700)  # registry and models are nobody else's on this machine
    home = OperatorHome(folder, settings)
    operator_identity(folder, randomness)
    Authority.create(home.tls, settings.serve.name, settings.serve.hosts, clock, randomness)
    home.open_registry(clock).close()
    write_settings(folder / SETTINGS, settings)
    return home


def open_operator_home(folder: Path) -> OperatorHome:
    """Opens the folder.

    Raises:
        SettingsError: it is no operator's home, or its settings are wrong.
    """
    if not (folder / SETTINGS).exists():
        raise SettingsError(f"{folder} is no operator's home; `consortium coordinator init` makes one, and --home names it")
    return OperatorHome(folder, load_settings(folder / SETTINGS))
