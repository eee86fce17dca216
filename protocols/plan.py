"""The plan: what a consortium agrees to train, as one strict TOML document.

Every party reads the same bytes (`Plan.canonical`) and derives the same hash from them; nothing outside the plan, the base
checkpoint and the state decides what an institution computes.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from protocols.errors import PlanError
from protocols.suites import SUITE, Suite
from protocols.validation import first_problem

DURATION_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]  # TOML and JSON have arrays, no tuples; the texts themselves stay strict


class _Table(BaseModel):
    """A TOML table in which an unknown key is an error, and so is a value of another type; an integer may stand for a real number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Base(_Table):
    """The checkpoint that every institution holds, by name and content."""

    name: str = Field(min_length=1, description="a name that each institution binds to a directory; a path is for simulate")
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="the checkpoint's hash; empty takes the hash found at the start")


class RecordTemplates(_Table):
    """How a record becomes text; `{field}`, `{{` and `}}` alone."""

    prompt: str = Field("", description="text given to the model, with {field}s of the record")
    target: str = Field("", description="text that the model learns to continue with; the loss is on it alone")
    messages: str = Field("", description="instead of prompt and target: the field that holds chat messages")
    max_tokens: PositiveInt = Field(256, description="longest record in tokens, prompt and target together")
    too_long: Literal["error", "truncate", "drop"] = Field("error", description="what happens to a longer record")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if bool(self.messages) == bool(self.prompt or self.target):
            raise ValueError("give either prompt and target, or messages")
        if not self.messages and not (self.prompt and self.target):
            raise ValueError("prompt and target are both needed")
        return self


class Trainable(_Table):
    """Which parts of the network are trained."""

    lora_rank: PositiveInt = Field(8, description="rank of LoRA on the targets")
    lora_alpha: PositiveFloat = Field(16, description="LoRA scale: alpha / rank")
    targets: Texts = Field(
        ("attention", "shared_experts", "dense_mlp", "lm_head"),
        description="attention, shared_experts, dense_mlp, lm_head, embeddings (trained in full), or exact module names",
    )
    rank_pattern: dict[str, int] = Field(default_factory=dict, description="module name = rank, where it differs")
    experts: Literal["none", "all", "esft-token", "esft-gate"] = Field("esft-token", description="which routed experts are adapted")
    expert_mode: Literal["lora", "full"] = Field("lora", description="LoRA on, or full weights of, the chosen experts")
    expert_rank: PositiveInt = Field(8, description="rank of LoRA on routed experts")
    expert_top_p: Fraction = Field(0.2, description="share of the affinity that the chosen experts of a layer cover")
    mtp: Literal["auto", True, False] = Field(
        "auto", description="auto adapts the MTP module if the base has one; true refuses a base without"
    )
    router_bias: Literal["frozen"] = Field("frozen", description="the selection bias stays as it is in the base")


class Training(_Table):
    """What an institution does between two sums."""

    local_steps: PositiveInt = Field(20, description="optimiser steps per round")
    batch_size: PositiveInt = Field(16, description="records per step")
    learning_rate: PositiveFloat = Field(5e-3, description="peak learning rate of AdamW")
    schedule: Literal["constant", "linear", "cosine"] = Field("cosine", description="learning rate over rounds")
    label_prior: Literal["none", "corrected"] = Field("none", description="corrected removes label skew from the loss; closed choices only")
    weight_decay: NonNegativeFloat = Field(0.0, description="decoupled weight decay")
    proximal: NonNegativeFloat = Field(0.0, description="FedProx: pull towards the round's starting point")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU, fp32 on a CPU")


class Aggregation(_Table):
    """How a sum becomes the next state."""

    rule: Literal["alternating", "fedavg"] = Field("alternating", description="alternating shares one LoRA factor a round and is exact")
    weights: Literal["uniform", "tokens"] = Field("uniform", description="each institution counts the same, or by its target tokens")
    rebalance_every: NonNegativeInt = Field(0, description="A-rounds of `alternating` between two re-balancings of the factors; 0: never")
    server_optimizer: Literal["none", "nesterov"] = Field("none", description="optimiser on the mean update")
    server_learning_rate: PositiveFloat = Field(1.0, description="step on the mean update")
    server_momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="momentum of the server optimiser")

    @model_validator(mode="after")
    def _rebalances_what_alternates(self) -> Self:
        if self.rebalance_every and self.rule != "alternating":
            raise ValueError('rebalance_every needs rule = "alternating"')
        return self


class Participation(_Table):
    """Who has to take part, and for how long a round waits."""

    quorum: Annotated[int, Field(ge=2)] = Field(3, description="fewest institutions in a round")
    deadline: str = Field("2h", description="longest wait for one stage: a number with s, m, h or d")
    retries: NonNegativeInt = Field(2, description="further attempts at a sum that failed")

    @field_validator("deadline")
    @classmethod
    def _is_duration(cls, value: str) -> str:
        number, unit = value[:-1], value[-1:]
        if unit not in DURATION_SECONDS or not number.isdigit() or int(number) == 0:
            raise ValueError("a duration such as 90s, 30m, 2h or 1d is needed")
        return value

    @property
    def deadline_seconds(self) -> int:
        return int(self.deadline[:-1]) * DURATION_SECONDS[self.deadline[-1]]


class SecureAggregation(_Table):
    """The terms of the secure sum (docs: threat model)."""

    min_institutions: Annotated[int, Field(ge=3)] = Field(3, description="fewest members of a cohort")
    colluding: NonNegativeInt = Field(1, description="institutions that may collude with the coordinator")
    audit_rounds: Annotated[int, Field(ge=1)] = Field(2, description="rounds for which masked uploads are kept to check totals with")
    lanes: Literal[32, 24, 20] = Field(32, description="bits per element of an update; weights and counts always have 32")
    suite: Suite = Field(SUITE, description="SA-1: keys agreed by X25519 and ML-KEM-768; SA-1-X25519: by X25519 alone")


class Evaluation(_Table):
    """How the federated model is measured, by secure sums over the institutions' test records."""

    metric: Literal["accuracy", "exact_match", "bits_per_byte"] = Field("accuracy", description="a pair of sums over test records")
    every: PositiveInt = Field(1, description="rounds between two evaluations; the last round is always evaluated")
    choices: Texts = Field((), description="the closed list of targets for accuracy; simulate fills an empty one")
    max_records: PositiveInt = Field(2000, description="test records per institution")

    @property
    def higher_is_better(self) -> bool:
        return self.metric != "bits_per_byte"


class Requirements(_Table):
    """What must hold before a model version is released."""

    metric_above_base: FiniteFloat | None = Field(0.0, description="improvement over the base that a release needs")


class Release(_Table):
    """The release gate."""

    require: Requirements = Requirements()


class ByField(_Table):
    """One institution for each value of a field, in order of size."""

    field: str = Field(min_length=1)


class Dirichlet(_Table):
    """Label skew: each label's records are divided by a Dirichlet draw."""

    dirichlet: str = Field(min_length=1)
    alpha: PositiveFloat


class Uniform(_Table):
    """Records dealt out evenly at random."""

    uniform: Literal[True]


def _partition_table(value: Any) -> str | None:
    """The table that a partition's keys belong to, so that an error is about that one alone."""
    tables: dict[str, type[_Table]] = {"field": ByField, "dirichlet": Dirichlet, "uniform": Uniform, "alpha": Dirichlet}
    if isinstance(value, dict):
        return next((table.__name__ for key, table in tables.items() if key in value), None)
    return type(value).__name__


Partition = Annotated[
    Annotated[ByField, Tag("ByField")] | Annotated[Dirichlet, Tag("Dirichlet")] | Annotated[Uniform, Tag("Uniform")],
    Discriminator(
        _partition_table,
        custom_error_type="partition",
        custom_error_message="give { field = ... }, { dirichlet = ..., alpha = ... } or { uniform = true }",
    ),
]


class Simulation(_Table):
    """What only `simulate` reads."""

    source: str = Field(min_length=1, description="records; a path relative to the plan")
    partition: Partition = Field(Uniform(uniform=True), description="field, dirichlet with alpha, or uniform")
    institutions: Annotated[int, Field(ge=3)] = Field(5, description="how many institutions")
    max_records: NonNegativeInt = Field(0, description="training records per institution; 0 takes all")


class Plan(_Table):
    """One federated fine-tuning, complete. Only `name`, `base` and `[records]` are required."""

    schema_version: Literal[1] = Field(1, alias="schema", description="version of this format")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="letters, digits, dot, dash and underscore")
    seed: NonNegativeInt = Field(0, description="initial adapters and order of records; never masks, keys or noise")
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
    privacy: None = Field(None, description="absent: no noise, and the report says so")
    evaluation: Evaluation = Evaluation()
    release: Release = Release()
    simulation: Simulation | None = Field(None, description="read by simulate alone")

    @field_validator("base", mode="before")
    @classmethod
    def _base_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("privacy", mode="before")
    @classmethod
    def _no_privacy_yet(cls, value: Any) -> Any:
        if value is not None:
            raise ValueError("this version adds no noise; take the [privacy] table out, or wait for a version that honours it")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.training.label_prior == "corrected" and self.evaluation.metric != "accuracy":
            raise ValueError('training.label_prior = "corrected" needs closed choices: evaluation.metric = "accuracy"')
        return self

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
