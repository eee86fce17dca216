"""Private plans so small that their runs take seconds."""

from __future__ import annotations

from typing import Any

from protocols.plan import Plan
from tests.federation.federation import make_plan

RECORDS = {"prompt": "{note}", "target": "{code}", "max_tokens": 16, "too_long": "drop"}
SMALL = {"lora_rank": 2, "targets": ["attention", "lm_head"], "experts": "none"}
LOCAL = {"epsilon": 8.0, "delta": 1e-5, "mechanism": "local"}
DISTRIBUTED = {"epsilon": 8.0, "delta": 1e-5, "mechanism": "distributed", "noise_multiplier": 1.0}


def private_plan(privacy: dict[str, Any], **tables: Any) -> Plan:
    """`privacy` is its table; keyword arguments replace other tables."""
    steps = 1 if privacy["mechanism"] == "distributed" else 4
    content: dict[str, Any] = {
        "privacy": privacy,
        "records": RECORDS,
        "trainable": SMALL,
        "training": {"local_steps": steps, "batch_size": 8, "learning_rate": 0.01},
        "evaluation": {"choices": ["a", "b"]},
    }
    return make_plan(**{**content, **tables})
