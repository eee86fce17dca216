"""Aggregation rules, one file each; `rule_of` finds a plan's rule."""

from __future__ import annotations

from protocols.aggregation.alternating import Alternating
from protocols.aggregation.base import Keep, Rule, ServerStep, Tensor, Weights
from protocols.aggregation.fedavg import FedAvg
from protocols.aggregation.fedsa import FedSA
from protocols.aggregation.fedsb import FedSB
from protocols.aggregation.fedsvd import FedSVD
from protocols.aggregation.ffa import FFA
from protocols.aggregation.server_optimizer import ServerOptimizer
from protocols.aggregation.sketched import Sketched
from protocols.plan import Plan

__all__ = ["Keep", "Rule", "ServerOptimizer", "ServerStep", "Tensor", "Weights", "rule_of"]

_RULES: dict[str, type[Rule]] = {
    "fedavg": FedAvg,
    "fedsa": FedSA,
    "fedsb": FedSB,
    "fedsvd": FedSVD,
    "ffa": FFA,
    "sketched": Sketched,
}


def rule_of(plan: Plan) -> Rule:
    """The rule that the plan names."""
    if plan.aggregation.rule == "alternating":
        return Alternating(plan.participation.batches)
    return _RULES[plan.aggregation.rule]()
