"""`institution.toml`: where one institution's records, bases and own files are."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from client.database import absolute_source
from client.errors import SettingsError
from protocols.commented import commented, quoted
from protocols.files import write_file
from protocols.plan import Plan
from protocols.ranks import held_rank, plan_ranks
from protocols.validation import first_problem


class _Table(BaseModel):
    """A TOML table in which an unknown key is an error, and so is a value of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RecordSettings(_Table):
    """Where the records are and how they are divided."""

    source: str = Field(
        min_length=1, repr=False, description="JSONL, CSV or Parquet, a path relative to this file, * and ? allowed; or a database's URL"
    )
    query: str = Field("", description="with a URL: the SELECT whose rows are the records, in a fixed order")
    id: str = Field("", description="column that names a record")
    group: str = Field("", description="column that is never divided between training and test, say the patient")
    split: str = Field("", description="column holding train or test, followed only if named here; records with anything else are not read")
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="instead of split: share that is test, by hash")
    fields: dict[str, str | dict[str, str]] = Field(
        default_factory=dict, description="plan's field = own column; a table named like a plan holds for that plan alone"
    )

    @model_validator(mode="after")
    def _one_division(self) -> Self:
        if bool(self.split) == (self.test_fraction is not None):
            raise ValueError("give either split or test_fraction")
        return self

    @model_validator(mode="after")
    def _query_with_url(self) -> Self:
        if ("://" in self.source) != bool(self.query):
            raise ValueError("a database's URL as source needs a query, and files have none")
        return self

    def column(self, field: str, plan_name: str) -> str:
        """The own column that the plan's field means; its own name where nothing else is said."""
        override = self.fields.get(plan_name)
        if isinstance(override, Mapping) and field in override:
            return override[field]
        general = self.fields.get(field, field)
        return general if isinstance(general, str) else field


class HardwareSettings(_Table):
    """What the network runs on."""

    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:N")
    base_precision: Literal["stored", "fp32", "bf16"] = Field("fp32", description="how the base's frozen weights are held")
    gpus: Annotated[int, Field(ge=1)] = Field(1, description="GPUs that one training uses, where device is cuda")
    micro_batch: Annotated[int, Field(ge=1)] | None = Field(None, description="records computed at once; fewer take less memory")
    checkpointing: bool = Field(False, description="compute activations twice rather than keep them")
    max_rank: Annotated[int, Field(ge=1)] | None = Field(
        None, description="largest LoRA rank that is trained: of nested ranks the leading ones; other plans above are refused"
    )
    keep_warm: bool = Field(True, description="whether the base stays in memory between rounds")

    @field_validator("gpus")
    @classmethod
    def _one_gpu(cls, value: int) -> int:
        if value > 1:
            raise ValueError("this version trains on one GPU; set it to 1 or take it out")
        return value

    @field_validator("keep_warm")
    @classmethod
    def _stays_warm(cls, value: bool) -> bool:
        if not value:
            raise ValueError("this version always keeps the base in memory between rounds; set it to true or take it out")
        return value

    def check_plan(self, plan: Plan) -> None:
        """Refuses a plan whose adapters are larger than this hardware is meant for; of nested ranks it trains what it can.

        Raises:
            SettingsError: naming the plan's key.
        """
        if self.max_rank is None or held_rank(plan, self.max_rank) is not None:
            return
        for key, rank in plan_ranks(plan).items():
            if rank > self.max_rank:
                raise SettingsError(
                    f"{key} is {rank} and this institution's hardware.max_rank {self.max_rank}; lower the one or raise the other"
                )


class StorageSettings(_Table):
    """Where the node keeps its ledger and state."""

    home: str = Field("node", description="directory; a path relative to this file")
    checkpoint_seconds: Annotated[int, Field(ge=0)] = Field(60, description="at least, between two checkpoints of a training; 0 for none")


class InstitutionSettings(_Table):
    """The whole file. Paths are absolute once `load_settings` has read it."""

    records: RecordSettings
    bases: dict[str, str] = Field(default_factory=dict, description="base's name in plans = directory of the checkpoint")
    hardware: HardwareSettings = HardwareSettings()
    storage: StorageSettings = StorageSettings()

    def base_directory(self, name: str) -> Path:
        """The checkpoint that a plan's base name is bound to.

        Raises:
            SettingsError: the name is not bound.
        """
        if name not in self.bases:
            raise SettingsError(f'institution.toml binds no directory to base "{name}"; add {json.dumps(name)} = "DIRECTORY" to [bases]')
        return Path(self.bases[name])


def load_settings(path: Path) -> InstitutionSettings:
    """Reads an institution's settings.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or has an unknown or wrong key.
    """
    try:
        settings = InstitutionSettings.model_validate(_read_toml(path))
    except ValidationError as error:
        raise SettingsError(f"{path}: {first_problem(error, InstitutionSettings)}") from None
    here = path.resolve().parent
    return settings.model_copy(
        update={
            "records": settings.records.model_copy(update={"source": absolute_source(settings.records.source, here)}),
            "bases": {name: str(here / directory) for name, directory in settings.bases.items()},
            "storage": settings.storage.model_copy(update={"home": str(here / settings.storage.home)}),
        }
    )


def write_settings(path: Path, settings: InstitutionSettings) -> None:
    """Writes the file with a comment on every key, so that it can be read and changed by hand."""
    records, tables = settings.records, ["# One institution of a consortium. Paths are relative to this file; nothing here leaves it."]
    tables.append(_written("records", records, skip=("fields",)))
    plain = {field: column for field, column in records.fields.items() if isinstance(column, str)}
    tables.append(_mapping("records.fields", plain, RecordSettings.model_fields["fields"].description or ""))
    tables += [_mapping(f"records.fields.{quoted(p)}", table, "") for p, table in records.fields.items() if not isinstance(table, str)]
    tables.append(_mapping("bases", settings.bases, InstitutionSettings.model_fields["bases"].description or ""))
    tables += [_written("hardware", settings.hardware), _written("storage", settings.storage)]
    write_file(path, "\n\n".join(tables).encode() + b"\n")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise SettingsError(
            f"{path}: there is no readable file at this path; name the folder that `consortium client init` made, "
            "or copy one that `consortium simulate` wrote"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: the settings are not UTF-8 text; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None


def _written(name: str, table: _Table, skip: tuple[str, ...] = ()) -> str:
    return "\n".join([f"[{name}]", *commented(table, skip)])


def _mapping(name: str, mapping: Mapping[str, str], description: str) -> str:
    heading = f"[{name}]  # {description}" if description else f"[{name}]"
    return "\n".join([heading, *(f"{quoted(key)} = {quoted(value)}" for key, value in mapping.items())])
