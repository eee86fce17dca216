"""The rows of the benchmark, the most important first, and where each one's figures lie."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.learning.sets import FULL, SHORT
from benchmarks.learning.variants import BASELINES, VARIANTS, Variant
from protocols.files import write_file
from protocols.plan import Plan

Figures: TypeAlias = Mapping[str, Any]
SEEDS = 3
_RULES = ("ffa", "fedsvd", "fedsb", "sketched")  # the best of them joins default and fedavg on the short sets


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One simulation, or the baselines of a set and seed."""

    data: str
    variant: str
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.data}-{re.sub(r'[^a-z0-9]+', '-', self.variant)}-{self.seed}"

    def __str__(self) -> str:
        return f"{self.data}, {self.variant}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Results:
    """Finished rows on disk, one file each; a row counts only for the plan that it was measured with."""

    folder: Path

    def read(self, row: Row) -> Figures | None:
        path = self.folder / f"{row.folder}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write(self, row: Row, plan: Plan, figures: Figures) -> None:
        named = {"set": row.data, "variant": row.variant, "seed": row.seed, "plan_sha256": fingerprint(plan)}
        self.keep(row, {**named, **figures})

    def keep(self, row: Row, figures: Figures) -> None:
        """Figures that say already what they were measured with."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(self.folder / f"{row.folder}.json", (json.dumps(figures, indent=2) + "\n").encode())

    def holds(self, row: Row, plan: Plan) -> bool:
        found = self.read(row)
        return found is not None and found["plan_sha256"] == fingerprint(plan)

    def all(self) -> list[Figures]:
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.folder.glob("*.json"))]


def fingerprint(plan: Plan) -> str:
    """Hash of a plan without the place of its records, which differs between machines."""
    content = plan.model_dump(mode="json", by_alias=True)
    content["simulation"] = {**(content["simulation"] or {}), "source": ""}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def planned(results: Iterable[Figures], variants: Iterable[Variant] = VARIANTS) -> Iterator[Row]:
    """Seed 0 of everything, the short sets after the full ones; then the further seeds of the full ones."""
    known, every = list(results), list(variants)
    for seed in range(SEEDS):
        yield from (Row(data, BASELINES, seed) for data in FULL)
        yield from (Row(data, one.name, seed) for one in every if seed < one.seeds for data in one.sets)
        if seed == 0:
            yield from (Row(data, name, 0) for data in SHORT for name in (BASELINES, "default", "fedavg"))
    best = best_rule(known)
    if best is not None:
        yield from (Row(data, best, 0) for data in SHORT)


def best_rule(results: Iterable[Figures]) -> str | None:
    """The rule, beside the default and fedavg, with the highest mean metric of seed 0 over the full sets; None before one has both."""
    found = {(one["variant"], one["set"]): one["federated"] for one in results if one["seed"] == 0 and one["variant"] in _RULES}
    means = {rule: sum(found[rule, data] for data in FULL) for rule in _RULES if all((rule, data) in found for data in FULL)}
    return max(means, key=lambda rule: means[rule]) if means else None
