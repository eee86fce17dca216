"""Which routed experts the consortium adapts (ESFT, Wang et al. 2024), decided once from securely summed affinities."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from protocols.errors import FlatRoutingError
from protocols.state import Experts

Affinities = Mapping[int, NDArray[np.float64]]  # layer -> [E], token share or gate share of each expert
LEAST_UNEVENNESS = 0.05  # docs/model.md has what was measured


def normalized_affinities(affinities: Affinities) -> dict[int, NDArray[np.float64]]:
    """Shares that add up to one in each layer, so that every institution counts the same; no tokens leave a layer at zero."""
    return {layer: values / values.sum() if values.sum() > 0 else np.zeros_like(values) for layer, values in affinities.items()}


def select_experts(affinities: Affinities, top_p: float) -> dict[int, tuple[int, ...]]:
    """In each layer the smallest set of experts whose share of the affinity reaches `top_p`; ties go to the lower number."""
    return {layer: _smallest_cover(np.asarray(values, np.float64), top_p) for layer, values in sorted(affinities.items())}


def unevenness(affinities: Affinities) -> float:
    """The share of all use that would have to move for equal use of every expert, mean over layers: 0 (flat) to 1 - 1/E.

    That is the total variation distance between a layer's shares and equal ones. It does not depend on how many experts are chosen.
    """
    return math.fsum(_displaced(np.maximum(values, 0.0)) for values in affinities.values()) / max(len(affinities), 1)


def check_not_flat(affinities: Affinities) -> None:
    """Raises:
    FlatRoutingError: all experts are used nearly alike, as where a router was balanced on such text, and a selection means nothing.
    """
    found = unevenness(affinities)
    if affinities and found < LEAST_UNEVENNESS:
        raise FlatRoutingError(
            f"routing on these records is too flat to choose experts by: {found:.1%} of it would have to move for equal use "
            f'of all experts, and a choice needs {LEAST_UNEVENNESS:.0%}; set trainable.experts to "all" or "none"'
        )


def all_experts(expert_counts: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
    """Every routed expert of every layer."""
    return {layer: tuple(range(count)) for layer, count in sorted(expert_counts.items())}


def _smallest_cover(values: NDArray[np.float64], top_p: float) -> tuple[int, ...]:
    clean = np.maximum(values, 0.0)
    order = np.argsort(-clean, kind="stable")
    covered = np.cumsum(clean[order]) if clean.sum() > 0 else np.arange(1.0, len(clean) + 1.0)
    # A relative slack of one in 10^9 keeps the last bit of a sum from adding an expert.
    needed = int(np.searchsorted(covered, top_p * covered[-1] * (1 - 1e-9))) + 1
    return tuple(sorted(int(expert) for expert in order[:needed]))


def _displaced(values: NDArray[np.float64]) -> float:
    total = math.fsum(values)  # fsum rounds once: the order of a sum may differ between machines, and what is refused may not
    return 0.5 * math.fsum(np.abs(values / total - 1 / len(values))) if total else 0.0


def experts_without_choice(mode: str, expert_counts: Mapping[int, int]) -> Experts:
    """The experts before, or without, a selection: all of them for "all", otherwise none."""
    return all_experts(expert_counts) if mode == "all" else {}
