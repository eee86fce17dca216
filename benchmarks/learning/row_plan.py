"""The plan that a row is measured with."""

from __future__ import annotations

from benchmarks.learning.equal_bytes import rank_of_equal_bytes
from benchmarks.learning.rows import Results, Row
from benchmarks.learning.variants import BASELINES, changed, plan_of, variant
from protocols.errors import ConsortiumError
from protocols.plan import Plan


class NeedsRow(ConsortiumError):
    """A row's plan follows from the experts that another row chose."""

    def __init__(self, row: Row) -> None:
        super().__init__(f"the experts that it is compared with are those of a row without figures: {row}")
        self.row = row


def plan_of_row(row: Row, plan: Plan, results: Results) -> Plan:
    """The plan that a row is measured with.

    Raises:
        PlanError: the variant's values are refused.
        NeedsRow: it sends as many bytes as a row that has not been measured.
    """
    chosen = variant(row.variant) if row.variant != BASELINES else variant("default")
    made = plan_of(plan, chosen, row.seed)
    if chosen.bytes_of is None:
        return made
    other = Row(row.data, chosen.bytes_of, row.seed)
    with_experts = plan_of(plan, variant(chosen.bytes_of), row.seed)
    found = results.read(other)
    if found is None or not results.holds(other, with_experts):
        raise NeedsRow(other)
    rank = rank_of_equal_bytes(made, with_experts, found["experts"])
    scale = plan.trainable.lora_alpha / plan.trainable.lora_rank
    return changed(made, {"trainable": {"lora_rank": rank, "lora_alpha": scale * rank}})
