"""The three tables of a plan that the memory of training depends on, read as strictly as `consortium plan check` names them.

`protocols.plan` owns the format, and `model` may not import it: the names here are compared with its fields by a test.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import ConfigError

# fmt: off
PLAN = frozenset({
    "schema", "name", "seed", "rounds", "terms", "terms_sha256", "base", "records", "trainable", "training", "aggregation",
    "participation", "secure_aggregation", "personalisation", "privacy", "evaluation", "release", "simulation",
})
TABLES = {
    "trainable": frozenset({
        "lora_rank", "lora_alpha", "targets", "embedding_mode", "ranks", "rank_pattern", "experts", "expert_mode", "expert_rank",
        "expert_top_p", "mtp", "router_bias", "router_bias_speed",
    }),
    "training": frozenset({
        "local_steps", "batch_size", "learning_rate", "schedule", "label_prior", "weight_decay", "proximal", "scaffold", "precision",
    }),
    "records": frozenset({"prompt", "target", "messages", "max_tokens", "too_long"}),
}
# fmt: on
CHOICES = {
    "experts": ("none", "all", "esft-token", "esft-gate"),
    "expert_mode": ("lora", "full"),
    "embedding_mode": ("full", "lora"),
    "router_bias": ("frozen", "summed-counts"),
}
_CHECK = "see it with `consortium plan check`"


@dataclass(frozen=True, slots=True)
class PlanTables:
    """A plan's `[trainable]`, and the numbers of the other two tables with their defaults."""

    trainable: Mapping[str, Any]
    expert_top_p: float
    batch_size: int
    max_tokens: int


def read_plan_tables(plan: Path) -> PlanTables:
    """Reads a plan file.

    Raises:
        ConfigError: it is not TOML, or has a key that no plan has, or a value of another type than the memory needs.
    """
    try:
        content = tomllib.loads(plan.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{plan} is not TOML ({error}): give a plan") from None
    _check_names(plan, "", content, PLAN)
    tables = {name: content.get(name, {}) for name in TABLES}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{plan}: {name} must be a table, [{name}]")
        _check_names(plan, f" in [{name}]", table, TABLES[name])
    trainable = tables["trainable"]
    _check_trainable(plan, trainable)
    rows, tokens = _whole(plan, tables["training"], "batch_size", 16), _whole(plan, tables["records"], "max_tokens", 256)
    core = {"core": _rule(plan, content) == "fedsb"}
    return PlanTables(trainable | core, trainable.get("expert_top_p", 0.2), rows, tokens)


def _rule(plan: Path, content: Mapping[str, Any]) -> object:
    aggregation = content.get("aggregation", {})
    if not isinstance(aggregation, dict):
        raise ConfigError(f"{plan}: aggregation must be a table, [aggregation]")
    return aggregation.get("rule")


def _check_trainable(plan: Path, trainable: Mapping[str, Any]) -> None:
    for name, choices in CHOICES.items():
        if trainable.get(name, choices[0]) not in choices:
            raise ConfigError(f"{plan}: {name} must be one of {', '.join(choices)}, and is {trainable[name]!r}: {_CHECK}")
    for name in ("lora_rank", "expert_rank"):
        _whole(plan, trainable, name, 8)
    share = trainable.get("expert_top_p", 0.2)
    if type(share) not in (int, float) or not 0 < share <= 1:
        raise ConfigError(f"{plan}: expert_top_p must be a number above 0 and at most 1, and is {share!r}: {_CHECK}")


def _check_names(plan: Path, where: str, table: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in table:
        if name not in known:
            raise ConfigError(f"{plan}: a plan has no {ascii(name)[1:-1][:80]}{where}: correct or remove it, and {_CHECK}")


def _whole(plan: Path, table: Mapping[str, Any], name: str, default: int) -> int:
    value = table.get(name, default)
    if type(value) is not int or value <= 0:
        raise ConfigError(f"{plan}: {name} must be a whole number above 0, and is {value!r}: {_CHECK}")
    return value
