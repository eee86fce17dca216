"""What an institution allows, whatever a plan asks: read from its own `policy.toml`, enforced by its own node."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocols.commented import commented
from protocols.errors import PolicyError
from protocols.files import write_file
from protocols.plan import Plan
from protocols.state import State
from protocols.suites import SUITE, Suite
from protocols.validation import first_problem


class Policy(BaseModel):
    """The terms below which an institution takes no part."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_institutions: Annotated[int, Field(ge=3)] = Field(3, description="smallest cohort whose sum may be opened")
    colluding: Annotated[int, Field(ge=0)] = Field(1, description="institutions assumed to collude with the coordinator, at least")
    suites: tuple[Suite, ...] = Field((SUITE,), description="how keys of secure sums may be agreed: SA-1, SA-1-X25519")
    plans: tuple[str, ...] = Field((), description="names of plans that may be trained; empty allows every name")
    targets: tuple[str, ...] = Field((), description="parts of the network that may be trained; empty allows all")
    max_rounds: Annotated[int, Field(gt=0)] = Field(1000, description="most rounds of one plan")
    max_epsilon: Annotated[float, Field(gt=0)] = Field(10.0, description="most epsilon that private runs together may spend of one unit")
    max_delta: Annotated[float, Field(ge=1e-12, lt=1)] = Field(
        1e-5, description="largest delta of a plan, below 1 / units; max_epsilon is meant at it"
    )
    accept_vouched: bool = Field(False, description="whether enough vouchers put an institution or a new key on the roster")
    vouchers: Annotated[int, Field(ge=1)] = Field(2, description="institutions on the roster that must vouch, where accept_vouched is true")
    max_update_norm: Annotated[float, Field(gt=0)] = Field(1000.0, description="largest Frobenius norm of a round's step on one tensor")


def check_plan(policy: Policy, plan: Plan) -> None:
    """Refuses a plan that asks for more than the policy allows.

    Raises:
        PolicyError: the first term that is broken, with both figures.
    """
    for holds, sentence in _terms(policy, plan):
        if not holds:
            raise PolicyError(f"{sentence}; change the plan, or the policy if the institution agrees")


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
