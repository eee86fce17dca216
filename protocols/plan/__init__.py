"""The plan, one file for each group of its tables."""

from protocols.plan.evaluation import Evaluation
from protocols.plan.learning import Aggregation, Personalisation, Training
from protocols.plan.network import Base, RecordTemplates, Trainable
from protocols.plan.plan import Plan, load_plan, parse_plan, plan_from_canonical
from protocols.plan.protection import Participation, Privacy, SecureAggregation
from protocols.plan.simulation import ByField, Dirichlet, Simulation

__all__ = [
    "Aggregation",
    "Base",
    "ByField",
    "Dirichlet",
    "Evaluation",
    "Participation",
    "Personalisation",
    "Plan",
    "Privacy",
    "RecordTemplates",
    "SecureAggregation",
    "Simulation",
    "Trainable",
    "Training",
    "load_plan",
    "parse_plan",
    "plan_from_canonical",
]
