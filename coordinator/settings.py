"""The coordinator's settings, from `coordinator.toml` in the operator's home; without the file, the defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coordinator.errors import SettingsError
from protocols.commented import commented, quoted
from protocols.files import write_file
from protocols.validation import first_problem

Port = Annotated[int, Field(ge=1, le=65535)]
# A name, an IPv4 address, or an IPv6 address without brackets.
Host = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)$", max_length=253)]


class ServeSettings(BaseModel):
    """Where institutions reach the operator, and where the operator's processes listen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("coordinator", min_length=1, max_length=64, description="what institutions are told the coordinator is called")
    hosts: tuple[Host, ...] = Field(
        ("localhost",), min_length=1, description="public names or addresses; the first stands in invitations, all in the certificate"
    )
    listen: str = Field("0.0.0.0", min_length=1, description="address on this machine where the public ports listen")  # noqa: S104 - public on purpose
    fence_port: Port = Field(9443, description="public port of the fence, to which SuperNodes connect")
    service_port: Port = Field(9444, description="public port of the registry service")
    superlink_port: Port = Field(9445, description="port of the SuperLink, on the loopback address alone")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="port of figures for Prometheus, on loopback alone; 0 for none"
    )
    max_runs: Annotated[int, Field(ge=1)] = Field(2, description="most runs at a time; others wait in the order of their submission")
    database_patience: Annotated[float, Field(ge=0)] = Field(
        120.0, description="seconds for which a run waits for a registry's database that is away; then its process is started again"
    )
    stop_seconds: Annotated[float, Field(gt=0)] = Field(30.0, description="how long a process that was asked to end may take")

    @property
    def fence(self) -> str:
        """The fence's public address."""
        return _joined(self.hosts[0], self.fence_port)

    @property
    def service(self) -> str:
        """The registry service's public address."""
        return _joined(self.hosts[0], self.service_port)


class CoordinatorSettings(BaseModel):
    """Every key may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    registry: str = Field("registry.db", min_length=1, description="path of the registry, or a SQLAlchemy URL")
    models: str = Field("models", min_length=1, description="folder of released models; a path is relative to the registry's file")

    runs: str = Field("runs", min_length=1, description="folder of the runs' own files; a path is relative to the registry's file")

    serve: ServeSettings = ServeSettings()
    bases: dict[str, str] = Field(default_factory=dict, description="base's name in plans = directory with its config.json")

    def runs_folder(self, registry: str) -> Path:
        """Where states and transcripts of a registry's runs lie, found as `models_folder` is."""
        return _beside(registry) / self.runs

    def models_folder(self, registry: str) -> Path:
        """Where the models of a registry lie: beside its file, or for a URL below the current folder."""
        return _beside(registry) / self.models


def _beside(registry: str) -> Path:
    return Path() if "://" in registry else Path(registry).parent


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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


def new_settings(name: str, hosts: Sequence[str], bases: Mapping[str, str], ports: Mapping[str, int] | None = None) -> CoordinatorSettings:
    """The settings of a new operator's home.

    Raises:
        SettingsError: the name or a host cannot be one.
    """
    try:
        return CoordinatorSettings.model_validate({"serve": {"name": name, "hosts": list(hosts), **(ports or {})}, "bases": dict(bases)})
    except ValidationError as error:
        problem = first_problem(error, CoordinatorSettings).removeprefix("serve.")
        raise SettingsError(f"{problem}; give a short --name, and each --host as a name or an address without a port") from None


def write_settings(path: Path, settings: CoordinatorSettings) -> None:
    """Writes the file with a comment on every key, so that it can be read and changed by hand."""
    described = CoordinatorSettings.model_fields["bases"].description
    tables = [
        "# The operator's side of a consortium. Paths are relative to this file unless said otherwise.",
        "\n".join(commented(settings, skip=("serve", "bases"))),
        "\n".join(["[serve]", *commented(settings.serve)]),
        "\n".join([f"[bases]  # {described}", *(f"{quoted(name)} = {quoted(place)}" for name, place in settings.bases.items())]),
    ]
    write_file(path, "\n\n".join(tables).encode() + b"\n", mode=0o600)  # a URL may hold a password
