"""A plan in a few lines, for whoever decides whether their institution takes part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.errors import SettingsError
from client.records import plan_fields
from client.settings import InstitutionSettings
from model.config import read_config
from model.errors import ModelError
from model.layout import Adaptation, AdapterConfig
from protocols.plan import Plan
from protocols.privacy.statement import statement
from protocols.terms import Terms
from protocols.traffic import round_bytes


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What decides, of one plan for one run."""

    run: str
    plan: Plan
    bytes_per_round: int | None  # the largest; None where the base is not installed, which says how large the network is

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "run": self.run,
            "plan": {"name": self.plan.name, "sha256": self.plan.sha256},
            "rounds": self.plan.rounds,
            "base": {"name": self.plan.base.name, "sha256": self.plan.base.sha256},
            "trained": _trained(self.plan),
            "fields": list(plan_fields(self.plan.records)),
            "bytes_per_round": self.bytes_per_round,
            "privacy": _privacy(self.plan),
            "terms_sha256": self.plan.terms_sha256,
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        plan, sums = self.plan, self.plan.secure_aggregation
        yield f"{self.run}: plan {plan.name}, {plan.rounds} rounds on the base {plan.base.name}"
        yield f"  trains {_trained(plan)}"
        yield f"  uses the fields {', '.join(plan_fields(plan.records))} of each record"
        yield f"  sums over at least {sums.min_institutions} institutions, {sums.colluding} of which may collude with the coordinator"
        yield f"  sends {self._megabytes()} a round"
        yield f"  privacy: {_privacy(plan)}"
        yield f"  terms of use: {f'SHA-256 {plan.terms_sha256}' if plan.terms_sha256 else 'none in the plan'}"
        yield f"  plan: SHA-256 {plan.sha256}"

    def _megabytes(self) -> str:
        if self.bytes_per_round is None:
            return f"an unknown number of bytes (the base {self.plan.base.name} is not installed here)"
        more = ", and more once experts are chosen," if self.plan.trainable.experts.startswith("esft") else ""
        return f"{self.bytes_per_round / 1e6:.1f} MB{more}"


def summary_of(run: str, plan: Plan, settings: InstitutionSettings) -> PlanSummary:
    """The plan's summary; sizes are those of the base that the institution's settings name."""
    try:
        config = read_config(Path(settings.base_directory(plan.base.name)))
    except (SettingsError, ModelError, OSError):
        return PlanSummary(run, plan, None)
    terms = Terms(plan, Adaptation(config, AdapterConfig.from_fields(plan.adapter_fields), plan.seed))
    return PlanSummary(run, plan, max(size for _, size in round_bytes(terms, terms.start())))


def _trained(plan: Plan) -> str:
    part = plan.trainable
    experts = {"none": "no routed experts", "all": "all routed experts"}.get(part.experts, "routed experts chosen by use")
    return f"{', '.join(part.targets)} by LoRA of rank {part.lora_rank}; {experts}"


def _privacy(plan: Plan) -> str:
    promised = statement(plan)
    return "no noise is added; what passes is what the secure sum shows" if promised is None else str(promised)
