"""A round's update: weighted deltas of what was trained, with their weights, the loss and the number of examples."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.aggregation.base import Tensor, Weights
from protocols.encoding import Block, Total
from protocols.on_demand import OnDemand
from protocols.plan import Training
from protocols.schedule import largest_step
from protocols.state import Experts

LOSS_BOUND = 64.0  # nats per example, far above ln(vocabulary)


def delta_lane(name: str) -> str:
    """Name of the lanes of a tensor's delta."""
    return f"delta.{name}"


def weight_lane(layer: int) -> str:
    """Name of the lanes of the weights of a layer's adapted experts."""
    return f"expert_weights.{layer}"


def blocks(training: Training, learning_rate: float, trained: Sequence[Tensor], experts: Experts) -> tuple[Block, ...]:
    """Bounds follow from the plan alone, so that every party computes the same scales."""
    bound, examples = largest_step(training, learning_rate), training.local_steps * training.batch_size
    return (
        *(Block(delta_lane(t.name), t.shape, bound, False, narrow=True) for t in trained),
        Block("weight", (1,), 1.0, False),
        *(Block(weight_lane(layer), (len(experts[layer]),), 1.0, False) for layer in sorted(experts)),
        Block("loss", (1,), LOSS_BOUND * examples, False),
        Block("examples", (1,), float(examples), True),
    )


def deltas(total: Total) -> Total:
    """The summed deltas by tensor."""
    prefix = delta_lane("")
    return OnDemand([name.removeprefix(prefix) for name in total if name.startswith(prefix)], lambda name: total[delta_lane(name)])


def weights(total: Total, experts: Experts) -> Weights:
    """The summed weights."""
    of_experts = {
        (layer, expert): float(weight)
        for layer, chosen in experts.items()
        for expert, weight in zip(chosen, total[weight_lane(layer)], strict=True)
    }
    return Weights(float(total["weight"][0]), of_experts)


def mean_loss(total: Total) -> float | None:
    """Mean over training examples; None without any, and in a private run, which tells no loss."""
    examples = float(total["examples"][0]) if "examples" in total else 0.0
    return float(total["loss"][0]) / examples if examples else None
