"""The checkpoint that a plan names, for commands that run without an institution's settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from consortium.errors import SimulationError
from model.bases import bundled_base, bundled_names
from model.checkpoint.fingerprint import checkpoint_sha256
from model.config import ModelConfig, read_config
from protocols.plan import Plan


def base_directory(plan: Plan, home: Path) -> Path:
    """The checkpoint of a plan: a bundled base, or a directory relative to the plan.

    Raises:
        SimulationError: there is neither.
    """
    name = plan.base.name
    if name in bundled_names():
        return bundled_base(name)
    if (home / name).is_dir():
        return (home / name).resolve()
    known = ", ".join(bundled_names())
    raise SimulationError(
        f"plan {plan.name}: there is no base {name}: correct `base` ({known}), or bind a checkpoint directory to that name"
    )


def deployed_plan(plan: Plan, home: Path, bound: Mapping[str, str], operator: Path) -> tuple[Plan, ModelConfig]:
    """The plan with its base's hash, and the base's sizes: of a bundled base, or of a directory that the operator bound to its name.

    A bound directory needs `config.json` alone where the plan states `base.sha256`.

    Raises:
        SimulationError: there is no such base, or it is another than the plan's.
    """
    name = plan.base.name
    directory = operator / bound[name] if name in bound else base_directory(plan, home)
    config = read_config(directory)
    if plan.base.sha256 and not any(directory.glob("*.safetensors")):
        return plan, config
    digest = checkpoint_sha256(directory)
    if plan.base.sha256 not in ("", digest):
        raise SimulationError(f"{directory} is not the checkpoint of the plan: its hash is {digest}; correct base.sha256 or the checkpoint")
    return plan.model_copy(update={"base": plan.base.model_copy(update={"sha256": digest})}), config
