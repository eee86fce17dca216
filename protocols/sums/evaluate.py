"""The plan's metric on all institutions' test records, as a pair of sums."""

from __future__ import annotations

from protocols.encoding import Block, Total
from protocols.plan import Plan
from protocols.sums.figures import Figures

BITS_PER_TOKEN = 64.0
BYTES_PER_TOKEN = 16


def blocks(plan: Plan) -> tuple[Block, ...]:
    """Right records of records, or bits of bytes."""
    records, tokens = plan.evaluation.max_records, plan.records.max_tokens
    if plan.evaluation.metric != "bits_per_byte":
        return (Block("numerator", (1,), float(records), True), Block("denominator", (1,), float(records), True))
    return (
        Block("numerator", (1,), BITS_PER_TOKEN * records * tokens, False),
        Block("denominator", (1,), float(BYTES_PER_TOKEN * records * tokens), True),
    )


def figures(total: Total) -> Figures:
    """The metric of a decoded total; None where nobody has a test record."""
    numerator, denominator = float(total["numerator"][0]), round(float(total["denominator"][0]))
    return Figures(numerator=numerator, denominator=denominator, metric=numerator / denominator if denominator else None)
