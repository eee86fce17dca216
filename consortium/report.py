"""What a simulation found, in the form of `report.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from consortium.errors import SimulationError
from coordinator.registry.records import Round
from protocols.files import write_file
from protocols.plan import Plan
from protocols.sums.evaluate import ACCEPTANCE

# What summary and picture read of a report.
READ_AGAIN = frozenset(
    {"plan", "metric", "higher_is_better", "test_records", "base", "local_only", "federated", "federated_own", "personalised", "pooled",
     "records", "rounds", "model"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """One trained model on the test records: of all institutions together, and of one's own."""

    union: float
    own: float


@dataclass(frozen=True, slots=True)
class Baselines:
    """What an institution reaches alone, and what one trainer reaches with all records."""

    local_only: Mapping[str, Figures] = field(default_factory=dict)
    pooled: float | None = None


@dataclass(frozen=True, slots=True)
class RecordCounts:
    """An institution's records: trained on and measured on, and how many of all were too long for the plan."""

    train: int
    test: int
    truncated: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished run hands to its report."""

    rounds: Sequence[Round]
    experts: Mapping[int, Sequence[int]]
    records: Mapping[str, RecordCounts]
    threshold: int
    own: Mapping[str, float]  # institution -> federated model on its own test records
    model: str | None  # None where the plan's requirements for a release were not met
    personalised: Mapping[str, float] | None = None  # institution -> its own model on its own test records
    privacy: Mapping[str, Any] | None = None  # of a private run (consortium.privacy)


@dataclass(frozen=True, slots=True)
class Report:
    """The document, and where it lies."""

    document: Mapping[str, Any]
    path: Path

    def __getitem__(self, key: str) -> Any:
        return self.document[key]


def make_report(plan: Plan, outcome: Outcome, baselines: Baselines, path: Path) -> Report:
    """Writes and returns the report of a finished run."""
    metrics = [one.metric for one in outcome.rounds if one.metric is not None]
    document = {
        "schema": 1,
        "plan": {"name": plan.name, "sha256": plan.sha256},
        "seed": plan.seed,
        "base_sha256": plan.base.sha256,
        "metric": plan.evaluation.metric,
        "higher_is_better": plan.evaluation.higher_is_better,
        "test_records": sum(one.test for name, one in outcome.records.items() if name not in outcome.rounds[-1].missing),
        "base": metrics[0],
        "local_only": _local_only(baselines, plan.evaluation.higher_is_better),
        "federated": metrics[-1],
        "federated_own": dict(outcome.own),
        "personalised": _personalised(plan, outcome),
        "pooled": baselines.pooled,
        "records": {name: asdict(one) for name, one in outcome.records.items()},
        "rounds": [_round(one) for one in outcome.rounds if one.number],
        "experts": {
            "selected": {str(layer): list(chosen) for layer, chosen in sorted(outcome.experts.items())},
            "excluded": _excluded(outcome),
        },
        "mtp": {
            "acceptance_before": outcome.rounds[0].figures.get(ACCEPTANCE),
            "acceptance_after": outcome.rounds[-1].figures.get(ACCEPTANCE),
        },
        "privacy": outcome.privacy,
        "secure_aggregation": {"threshold": outcome.threshold, "colluding": plan.secure_aggregation.colluding},
        "model": outcome.model,
    }
    write_file(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    return Report(document, path)


def read_report(path: Path) -> Report | None:
    """The report that an earlier process left.

    Raises:
        SimulationError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        document = None
    if not isinstance(document, dict) or not document.keys() >= READ_AGAIN:
        raise SimulationError(f"{path} is damaged; delete it, and the same command writes it again")
    return Report(document, path)


def _local_only(baselines: Baselines, higher_is_better: bool) -> dict[str, Any] | None:
    if not baselines.local_only:
        return None
    union = [figures.union for figures in baselines.local_only.values()]
    return {
        "mean": sum(union) / len(union),
        "best": max(union) if higher_is_better else min(union),
        "institutions": {name: {"union": figures.union, "own": figures.own} for name, figures in baselines.local_only.items()},
    }


def _personalised(plan: Plan, outcome: Outcome) -> dict[str, Any] | None:
    """Under fedsa the shared model is none to use, and the federation's figures are of institutions' own models too."""
    if outcome.personalised is None:
        return None
    figures = outcome.personalised
    mean = sum(figures.values()) / len(figures)
    return {"mean": mean, "institutions": dict(figures), "in_federated": plan.aggregation.rule == "fedsa"}


def _excluded(outcome: Outcome) -> int:
    """How often, over all rounds of training, an adapted expert stayed as it was because too few institutions had trained it."""
    selected = sum(len(chosen) for chosen in outcome.experts.values())
    kept = [sum(len(chosen) for chosen in one.experts.values()) for one in outcome.rounds if one.number and one.experts is not None]
    return sum(selected - count for count in kept)


def _round(one: Round) -> dict[str, Any]:
    return {
        "round": one.number,
        "institutions": one.institutions,
        "missing": list(one.missing),
        "loss": one.loss,
        "metric": one.metric,
        "seconds": round(one.seconds, 3),
        "bytes_up": one.bytes_up,
        "bytes_down": one.bytes_down,
        **({"figures": dict(one.figures)} if one.figures else {}),
    }
