"""Values of the victim that are easy to find again, were they to appear anywhere."""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass, replace

from client.checkpoints import CheckpointOf
from client.work import LocalUpdate, MetricSums
from protocols.state import Experts, Tensors
from tests.federation.federation import FormulaWork

PROMPT = "Noted 17 March: Ms Canary of ward 7 (XQ-4711) left without her results"
LOSS = 19.317283950617283
RIGHT, RECORDS = 1913.0, 1997
CANARIES = {
    "a record's text": PROMPT.encode(),
    "the loss as a number": struct.pack("<d", LOSS),
    "the loss as text": repr(LOSS).encode()[:12],
    "the count of right records": struct.pack("<d", RIGHT),
    "the count of records": struct.pack("<q", RECORDS),
    "the plain counts": struct.pack("<II", int(RIGHT), RECORDS),
}


@dataclass
class CanaryWork(FormulaWork):
    """The formula, with a loss and counts that nobody else has, and one record to quote."""

    def train(
        self,
        round_number: int,
        tensors: Tensors,
        trained: Collection[str],
        experts: Experts,
        corrections: Tensors | None = None,
        checkpoint: CheckpointOf | None = None,
    ) -> LocalUpdate:
        return replace(super().train(round_number, tensors, trained, experts, corrections), loss_sum=LOSS)

    def evaluate(self, tensors: Tensors, experts: Experts) -> MetricSums:
        return MetricSums(RIGHT, RECORDS)
