"""The plan's metric on all institutions' test records, as a pair of sums; and how well multi-token prediction drafts, as another.

The last one may also count the institutions that do better with their local-only model: one bit of each, of which only the sum is opened.
"""

from __future__ import annotations

from protocols.encoding import Block, Total
from protocols.plan import Plan
from protocols.sums.figures import Figures

BITS_PER_TOKEN = 64.0
BYTES_PER_TOKEN = 16
DRAFT_RECORDS = 200  # test records per institution on which drafts are counted: a bound on what that costs
ACCEPTANCE = "acceptance"  # the figure's name
WORSE_THAN_ALONE = "worse_than_alone"  # name of the lane, and of the figure: institutions for which the shared model is the worse one


def blocks(plan: Plan, with_drafts: bool, with_alone: bool) -> tuple[Block, ...]:
    """Right records of records, or bits of bytes; then accepted drafts of drafts; then one bit."""
    alone = (Block(WORSE_THAN_ALONE, (1,), 1.0, True),) if with_alone else ()
    return _metric_blocks(plan) + (_draft_blocks(plan) if with_drafts else ()) + alone


def figures(total: Total) -> Figures:
    """The metric of a decoded total, None where nobody has a test record; the others, left out where nothing was drafted or compared."""
    numerator, denominator = float(total["numerator"][0]), round(float(total["denominator"][0]))
    metric = numerator / denominator if denominator else None
    return Figures(numerator=numerator, denominator=denominator, metric=metric, more=_acceptance(total) | _worse(total))


def _metric_blocks(plan: Plan) -> tuple[Block, ...]:
    records, tokens = plan.evaluation.max_records, plan.records.max_tokens
    if plan.evaluation.metric != "bits_per_byte":
        return (Block("numerator", (1,), float(records), True), Block("denominator", (1,), float(records), True))
    return (
        Block("numerator", (1,), BITS_PER_TOKEN * records * tokens, False),
        Block("denominator", (1,), float(BYTES_PER_TOKEN * records * tokens), True),
    )


def _draft_blocks(plan: Plan) -> tuple[Block, ...]:
    most = float(min(DRAFT_RECORDS, plan.evaluation.max_records) * plan.records.max_tokens)
    return (Block("accepted", (1,), most, True), Block("drafted", (1,), most, True))


def _acceptance(total: Total) -> dict[str, float]:
    drafted = float(total["drafted"][0]) if "drafted" in total else 0.0
    return {ACCEPTANCE: float(total["accepted"][0]) / drafted} if drafted else {}


def _worse(total: Total) -> dict[str, float]:
    return {WORSE_THAN_ALONE: float(total[WORSE_THAN_ALONE][0])} if WORSE_THAN_ALONE in total else {}
