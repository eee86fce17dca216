"""What a plan costs and reveals, from the plan and the base's configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from consortium.bases import base_directory
from model.config import read_config
from model.layout import Adaptation, AdapterConfig
from protocols.plan import Plan, load_plan
from protocols.schedule import planned_sums
from protocols.update import Terms

OPTIMIZER_COPIES = 4  # the weights, their gradient, and AdamW's two moments, in fp32


def check_costs(path: Path) -> dict[str, Any]:
    """Figures and sentences of `consortium plan check`.

    Raises:
        ConsortiumError, ModelError: the plan or its base cannot be used.
    """
    plan = load_plan(path)
    base = base_directory(plan, path.resolve().parent)
    adaptation = Adaptation(read_config(base), AdapterConfig.from_fields(plan.trainable.model_dump()), plan.seed)
    terms = Terms(plan, adaptation)
    start = terms.start()
    trained = [sum(tensor_size(tensor.shape) for tensor in terms.trained(start, one)) for one in planned_sums(plan) if one.kind == "update"]
    parameters = sum(values.size for values in start.tensors.values())
    frozen = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    return {
        "schema": 1,
        "name": plan.name,
        "sha256": plan.sha256,
        "rounds": plan.rounds,
        "trained_parameters": parameters,
        "memory_bytes": frozen + OPTIMIZER_COPIES * 4 * parameters,
        "upload_bytes": 4 * max(trained),
        "reveals": _reveals(plan),
    }


def tensor_size(shape: tuple[int, ...]) -> int:
    """Elements of a tensor."""
    size = 1
    for length in shape:
        size *= length
    return size


def _reveals(plan: Plan) -> list[str]:
    sums = plan.secure_aggregation
    sentences = [
        "to everyone: that it takes part, when it answers, and the sizes of its messages",
        f"to everyone: sums over at least {sums.min_institutions} institutions of updates, losses and test figures",
        f"to nobody: its own part of a sum, while no more than {sums.colluding} institutions collude with the coordinator",
        "no noise is added: the trained model itself may repeat what many records have in common, and rare ones too",
    ]
    if plan.trainable.experts.startswith("esft"):
        sentences.insert(3, "to everyone: the sum of how much each expert is used on training records")
    return sentences
