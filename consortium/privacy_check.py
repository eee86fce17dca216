"""How much noise a private plan needs at each institution that its [simulation] makes, before anything is run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.private_runs import label_releases, sampling_rate
from client.units import units_of
from consortium.preparation import prepare
from protocols.plan import Plan, Privacy
from protocols.privacy.accounting import AnySpend
from protocols.privacy.calibration import calibrate, calibrate_skellam
from protocols.privacy.distributed import grid_of
from protocols.schedule import PlannedSum
from protocols.sums.private_update import dimension_of, is_distributed
from protocols.terms import Terms


def noise_needed(plan: Plan, terms: Terms, home: Path) -> dict[str, Any] | None:
    """Units, sampling rate and the noise multiplier that keeps the plan's epsilon, for each institution; None without [privacy].

    Under the distributed mechanism the plan's own multiplier must reach the largest of them.

    Raises:
        ConsortiumError: the records cannot be used, or no noise keeps the promise.
    """
    if plan.privacy is None:
        return None
    source = home / plan.simulation.source if plan.simulation else None
    if source is None or not source.is_file():
        return {"noise_multiplier": plan.privacy.noise_multiplier, "institutions": {}}
    datasets = prepare(plan, home).datasets
    units = {name: len(units_of(one.train, plan.privacy.unit)) for name, one in datasets.items()}
    needed = {count: _needed(plan, plan.privacy, terms, count) for count in sorted(set(units.values())) if count}
    return {"noise_multiplier": plan.privacy.noise_multiplier, "institutions": {name: needed.get(count) for name, count in units.items()}}


def _needed(plan: Plan, asked: Privacy, terms: Terms, units: int) -> Mapping[str, float]:
    rate, before = sampling_rate(plan, units), label_releases(plan)
    if is_distributed(plan):
        noise = _under_the_sum(plan, asked, terms, rate, before)
    else:
        noise = calibrate(asked.epsilon, asked.delta, rate, plan.rounds * plan.training.local_steps, before)
    return {"units": units, "sampling_rate": rate, "noise_multiplier": noise, "delta_below": 1.0 / units}


def _under_the_sum(plan: Plan, asked: Privacy, terms: Terms, rate: float, before: Sequence[AnySpend]) -> float:
    start = terms.start()
    grids = [grid_of(plan, dimension_of(terms.trained(start, PlannedSum(n, "update", True)))) for n in range(1, plan.rounds + 1)]
    l2, l1 = max(grid.l2 for grid in grids), max(grid.l1 for grid in grids)
    return math.sqrt(calibrate_skellam(asked.epsilon, asked.delta, rate, plan.rounds, l2, l1, before)) / l2
