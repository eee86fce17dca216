"""The plan: what a consortium agrees to train, as one strict TOML document.

Every party reads the same bytes (`Plan.canonical`) and derives the same hash from them; nothing outside the plan, the base
checkpoint and the state decides what an institution computes.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from protocols.errors import PlanError
from protocols.plan.combinations import first_contradiction
from protocols.plan.evaluation import Evaluation, Release
from protocols.plan.learning import Aggregation, Personalisation, Training
from protocols.plan.network import Base, RecordTemplates, Trainable
from protocols.plan.protection import Participation, Privacy, SecureAggregation
from protocols.plan.simulation import Simulation
from protocols.plan.table import PositiveInt, Seed, Table
from protocols.validation import first_problem


class Plan(Table):
    """One federated fine-tuning, complete. Only `name`, `base` and `[records]` are required."""

    schema_version: Literal[1] = Field(1, alias="schema", description="version of this format")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="letters, digits, dot, dash and underscore")
    seed: Seed = Field(0, description="initial adapters and order of records; never masks, keys or noise. Another for each run on a base")
    rounds: PositiveInt = Field(8, description="rounds of training")
    terms: str = Field("", description="text that each institution signs; a path relative to the plan")
    terms_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="hash of that text; filled when the plan is read")
    base: Base = Field(description="the checkpoint to fine-tune: its name, or a table with name and sha256")
    records: RecordTemplates
    trainable: Trainable = Trainable()
    training: Training = Training()
    aggregation: Aggregation = Aggregation()
    participation: Participation = Participation()
    secure_aggregation: SecureAggregation = SecureAggregation()
    personalisation: Personalisation = Personalisation()
    privacy: Privacy | None = Field(None, description="absent: no noise, and the report says so")
    evaluation: Evaluation = Evaluation()
    release: Release = Release()
    simulation: Simulation | None = Field(None, description="read by simulate alone")

    @field_validator("base", mode="before")
    @classmethod
    def _base_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        contradiction = first_contradiction(self)
        if contradiction is not None:
            raise ValueError(contradiction)
        return self

    @property
    def adapter_fields(self) -> dict[str, Any]:
        """What shapes the adapter's tensors, as `model.layout.AdapterConfig.from_fields` reads it."""
        return self.trainable.model_dump() | {"core": self.aggregation.rule == "fedsb"}

    def canonical(self) -> bytes:
        """The plan's bytes as every party hashes them: JSON with sorted keys, defaults written out."""
        content = self.model_dump(mode="json", by_alias=True)
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.canonical()).hexdigest()

    def with_choices(self, choices: tuple[str, ...]) -> Plan:
        """The same plan with its closed list of targets."""
        return self.model_copy(update={"evaluation": self.evaluation.model_copy(update={"choices": choices})})


def parse_plan(content: dict[str, Any], where: str) -> Plan:
    """Checks a plan's content; `where` is named in the error.

    Raises:
        PlanError: the first problem, in one sentence.
    """
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        raise PlanError(f"{where}: {first_problem(error, Plan)}") from None


def plan_from_canonical(data: bytes) -> Plan:
    """Reads a plan as the coordinator sent it; only canonical bytes are accepted, so that hash and meaning agree."""
    try:
        content = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise PlanError("the plan that was received is not JSON; ask the operator to submit it again") from None
    plan = parse_plan(content, "the plan that was received") if isinstance(content, dict) else None
    if plan is None or not _is_canonical(plan, data):
        raise PlanError("the plan that was received is not in canonical form; both sides must run the same version")
    return plan


def _is_canonical(plan: Plan, data: bytes) -> bool:
    try:
        return plan.canonical() == data
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can write and UTF-8 cannot
        return False


def load_plan(path: Path) -> Plan:
    """Reads and checks a plan file, and hashes the terms it names.

    Raises:
        PlanError: the file cannot be read, is not TOML, or breaks the format.
    """
    content = _read_toml(path)
    plan = parse_plan(content, str(path))
    if not plan.terms:
        return plan
    try:
        terms = (path.parent / plan.terms).read_bytes()
    except OSError:
        raise PlanError(f"{path}: terms names {plan.terms}, which cannot be read; put the text beside the plan") from None
    digest = hashlib.sha256(terms).hexdigest()
    if plan.terms_sha256 not in ("", digest):
        raise PlanError(f"{path}: terms_sha256 is not the hash of {plan.terms}; take the key out or restore the text")
    return plan.model_copy(update={"terms_sha256": digest})


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise PlanError(f"{path}: there is no readable plan at this path") from None
    except UnicodeDecodeError:
        raise PlanError(f"{path}: the plan is not UTF-8 text; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path}: not valid TOML: {error}") from None
