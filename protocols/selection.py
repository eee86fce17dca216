"""Which routed experts the consortium adapts (ESFT, Wang et al. 2024), decided once from securely summed affinities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from protocols.state import Experts

Affinities = Mapping[int, NDArray[np.float64]]  # layer -> [E], token share or gate share of each expert


def normalized_affinities(affinities: Affinities) -> dict[int, NDArray[np.float64]]:
    """Shares that add up to one in each layer, so that every institution counts the same; no tokens leave a layer at zero."""
    return {layer: values / values.sum() if values.sum() > 0 else np.zeros_like(values) for layer, values in affinities.items()}


def select_experts(affinities: Affinities, top_p: float) -> dict[int, tuple[int, ...]]:
    """In each layer the smallest set of experts whose share of the affinity reaches `top_p`; ties go to the lower number."""
    return {layer: _smallest_cover(np.asarray(values, np.float64), top_p) for layer, values in sorted(affinities.items())}


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


def experts_without_choice(mode: str, expert_counts: Mapping[int, int]) -> Experts:
    """The experts before, or without, a selection: all of them for "all", otherwise none."""
    return all_experts(expert_counts) if mode == "all" else {}
