"""Aggregation rules, one file each; `rule_of` finds a plan's rule."""

from __future__ import annotations

from protocols.aggregation.alternating import Alternating
from protocols.aggregation.base import Rule, Tensor, Weights
from protocols.aggregation.fedavg import FedAvg
from protocols.aggregation.server_optimizer import ServerOptimizer
from protocols.plan import Plan

__all__ = ["Rule", "ServerOptimizer", "Tensor", "Weights", "rule_of"]


def rule_of(plan: Plan) -> Rule:
    """The rule that the plan names."""
    return Alternating() if plan.aggregation.rule == "alternating" else FedAvg()
