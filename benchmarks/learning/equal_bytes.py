"""The LoRA rank at which a run without adapted experts sends as much as a run with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.learning.variants import changed
from consortium.bases import base_directory
from model.config import read_config
from model.layout import Adaptation, AdapterConfig
from protocols.aggregation import rule_of
from protocols.plan import Plan

LARGEST_RANK = 256


def rank_of_equal_bytes(plan: Plan, with_experts: Plan, experts: Mapping[str, Sequence[int]]) -> int:
    """The rank of `plan`, which adapts no expert, nearest to what `with_experts` uploads with the chosen experts (layer -> experts)."""
    wanted = uploaded_elements(with_experts, experts)
    uploads = {rank: uploaded_elements(changed(plan, {"trainable": {"lora_rank": rank}}), {}) for rank in range(1, LARGEST_RANK)}
    return min(uploads, key=lambda rank: abs(uploads[rank] - wanted))


def uploaded_elements(plan: Plan, experts: Mapping[str, Sequence[int]]) -> int:
    """Elements of the trained tensors that an institution uploads over all rounds; `experts` as in a report, layer -> experts."""
    config = read_config(base_directory(plan, Path.cwd()))
    chosen = {int(layer): tuple(found) for layer, found in experts.items()}
    layout = Adaptation(config, AdapterConfig.from_fields(plan.adapter_fields), plan.seed).layout(chosen)
    rule = rule_of(plan)
    # Rules look at most at whether a round is odd.
    sizes = [sum(math.prod(tensor.shape) for tensor in rule.trained(number, layout)) for number in (1, 2)]
    return sizes[0] * math.ceil(plan.rounds / 2) + sizes[1] * (plan.rounds // 2)
