"""What an institution allows, whatever a plan asks: read from its own `policy.toml`, enforced by its own node."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from protocols.commented import commented
from protocols.errors import PolicyError
from protocols.files import write_file
from protocols.hours import Hours
from protocols.plan import Plan
from protocols.state import State
from protocols.suites import SUITE, Suite
from protocols.terms import Terms
from protocols.traffic import round_bytes
from protocols.validation import first_problem


class Policy(BaseModel):
    """The terms below which an institution takes no part."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_institutions: Annotated[int, Field(ge=3)] = Field(3, description="smallest cohort whose sum may be opened")
    colluding: Annotated[int, Field(ge=0)] = Field(1, description="institutions assumed to collude with the coordinator, at least")
    suites: tuple[Suite, ...] = Field((SUITE,), description="how keys of secure sums may be agreed: SA-1, SA-1-X25519")
    plans: tuple[str, ...] = Field((), description="names of plans that may be trained; empty allows every name")
    targets: tuple[str, ...] = Field((), description="parts of the network that may be trained; empty allows all")
    modules: tuple[str, ...] = Field(
        (), description="names of modules that may be trained, * for any letters, as model.layers.*.self_attn.*; empty allows all"
    )
    fields: tuple[str, ...] = Field((), description="fields of a record that a plan may use, by the plan's names; empty allows all")
    approval: Literal["none", "plan"] = Field("none", description="plan: every plan waits for client approve")
    hours: str = Field("", description="when this institution trains, by its own clock, as 22:00-06:00; empty allows every hour")
    max_megabytes_per_round: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="most megabytes (10^6 bytes) that are sent in one round"
    )
    max_rounds: Annotated[int, Field(gt=0)] = Field(1000, description="most rounds of one plan")
    max_epsilon: Annotated[float, Field(gt=0)] = Field(10.0, description="most epsilon that private runs together may spend of one unit")
    max_delta: Annotated[float, Field(ge=1e-12, lt=1)] = Field(
        1e-5, description="largest delta of a plan, below 1 / units; max_epsilon is meant at it"
    )
    accept_vouched: bool = Field(False, description="whether enough vouchers put an institution or a new key on the roster")
    vouchers: Annotated[int, Field(ge=1)] = Field(2, description="institutions on the roster that must vouch, where accept_vouched is true")
    max_update_norm: Annotated[float, Field(gt=0)] = Field(1000.0, description="largest Frobenius norm of a round's step on one tensor")

    @field_validator("hours")
    @classmethod
    def _are_hours(cls, value: str) -> str:
        if value:
            Hours.parse(value)
        return value

    @property
    def training_hours(self) -> Hours | None:
        """None where every hour is allowed."""
        return Hours.parse(self.hours) if self.hours else None

    @property
    def limits_layout(self) -> bool:
        """Whether something that follows from plan and base together is limited."""
        return bool(self.modules) or self.max_megabytes_per_round is not None


def check_plan(policy: Policy, plan: Plan) -> None:
    """Refuses a plan that asks for more than the policy allows.

    Raises:
        PolicyError: the first term that is broken, with both figures.
    """
    for holds, sentence in _terms(policy, plan):
        if not holds:
            raise PolicyError(f"{sentence}; change the plan, or the policy if the institution agrees")


def check_layout(policy: Policy, terms: Terms, state: State) -> None:
    """Refuses what follows from plan and base together, any choice of experts included: which modules are trained, and bytes sent.

    Raises:
        PolicyError: the first module that may not be trained, or the first round that sends too much.
    """
    if policy.modules:
        _check_modules(policy, terms)
    if policy.max_megabytes_per_round is None:
        return
    for number, size in round_bytes(terms, state):
        if size > policy.max_megabytes_per_round * 1e6:
            raise PolicyError(
                f"round {number} sends {size / 1e6:.1f} MB and this institution's policy allows {policy.max_megabytes_per_round:g}; "
                "train less of the network, or raise max_megabytes_per_round if the institution agrees"
            )


def check_hours(policy: Policy, now: datetime) -> None:
    """Refuses to train at a moment of the institution's own time.

    Raises:
        PolicyError: it lies outside of the policy's hours; the sentence says when to ask again.
    """
    hours = policy.training_hours
    if hours is not None and not hours.cover(now):
        raise PolicyError(
            f"this institution trains from {hours} by its own clock (UTC{now:%z}); ask again from {hours.start:%H:%M} on, or change "
            "hours in its policy if it agrees"
        )


def check_update(policy: Policy, before: State, after: State) -> None:
    """Refuses a step that is larger than the policy allows, or not finite; both states have the same tensors.

    Raises:
        PolicyError: the first tensor that moves too far, with both figures.
    """
    for name in sorted(after.tensors):
        norm = float(np.linalg.norm(after.tensors[name].astype(np.float64) - before.tensors[name]))
        if not norm <= policy.max_update_norm:
            raise PolicyError(
                f"round {after.round} moves {name} by {norm:.4g} and this institution's policy allows {policy.max_update_norm:g}; "
                "lower the plan's learning rate, or raise max_update_norm if the institution agrees"
            )


def _terms(policy: Policy, plan: Plan) -> Iterator[tuple[bool, str]]:
    sums, ours = plan.secure_aggregation, "this institution's policy"
    yield (
        sums.min_institutions >= policy.min_institutions,
        f"secure_aggregation.min_institutions is {sums.min_institutions} and {ours} asks for at least {policy.min_institutions}",
    )
    yield sums.colluding >= policy.colluding, f"secure_aggregation.colluding is {sums.colluding} and {ours} asks for {policy.colluding}"
    yield sums.suite in policy.suites, f"secure_aggregation.suite is {sums.suite} and {ours} allows {' or '.join(policy.suites)}"
    yield not policy.plans or plan.name in policy.plans, f"the plan {plan.name} is not among those that {ours} allows"
    unwanted = sorted(set(plan.trainable.targets) - set(policy.targets)) if policy.targets else []
    yield not unwanted, f"trainable.targets names {', '.join(unwanted)}, which {ours} does not allow"
    yield plan.rounds <= policy.max_rounds, f"rounds is {plan.rounds} and {ours} allows at most {policy.max_rounds}"
    if plan.privacy is not None:
        asked = plan.privacy
        yield asked.epsilon <= policy.max_epsilon, f"privacy.epsilon is {asked.epsilon:g} and {ours} allows {policy.max_epsilon:g} in all"
        yield asked.delta <= policy.max_delta, f"privacy.delta is {asked.delta:g} and {ours} allows at most {policy.max_delta:g}"


def _check_modules(policy: Policy, terms: Terms) -> None:
    counts = terms.adaptation.expert_counts if terms.plan.trainable.experts != "none" else {}
    every = {layer: tuple(range(count)) for layer, count in counts.items()}
    for module in dict.fromkeys(module_of(tensor.name) for tensor in terms.adaptation.layout(every)):
        if not any(fnmatchcase(module, pattern) for pattern in policy.modules):
            raise PolicyError(
                f"the plan may train {module} and this institution's policy allows {', '.join(policy.modules)}; change the plan's "
                "[trainable], or modules in the policy if the institution agrees"
            )


def module_of(tensor: str) -> str:
    """The module that a tensor of an adapter belongs to: its name without what LoRA and the tensor itself add."""
    return re.sub(r"(\.lora_[ABR])?\.weight$", "", tensor)


def load_policy(path: Path) -> Policy:
    """Reads `policy.toml`; a file that does not exist is the default policy.

    Raises:
        PolicyError: the file is unreadable or breaks the format.
    """
    if not path.exists():
        return Policy()
    try:
        return Policy.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise PolicyError(f"{path}: {first_problem(error, Policy)}") from None
    except (OSError, ValueError):
        raise PolicyError(f"{path}: the policy is not readable TOML; mend it or delete it for the defaults") from None


def write_policy(path: Path, policy: Policy) -> None:
    """Writes the file with a comment on every key."""
    lines = ["# What this institution allows, whatever a plan asks; its own node refuses the rest.", *commented(policy)]
    write_file(path, "\n".join([*lines, ""]).encode())
