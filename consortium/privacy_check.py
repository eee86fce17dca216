"""How much noise a private plan needs at each institution that its [simulation] makes, before anything is run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.private_runs import label_releases, sampling_rate
from client.units import units_of
from consortium.errors import SimulationError
from consortium.preparation import prepare
from protocols.plan import Plan, Privacy, Simulation
from protocols.privacy.accounting import AnySpend
from protocols.privacy.calibration import calibrate, calibrate_skellam
from protocols.privacy.distributed import grid_of
from protocols.schedule import PlannedSum
from protocols.sums.private_update import dimension_of, is_distributed
from protocols.terms import Terms


def noise_needed(plan: Plan, terms: Terms, home: Path) -> dict[str, Any] | None:
    """Units, sampling rate and the noise multiplier that keeps the plan's epsilon, for each institution; None without [privacy].

    Raises:
        ConsortiumError: the records cannot be used, no noise keeps the promise, or an institution's node would refuse the plan.
    """
    if plan.privacy is None:
        return None
    needed: dict[str, Mapping[str, float]] = {}
    if plan.simulation is not None:
        units = _units(plan, plan.privacy, home, plan.simulation)
        by_count = {count: _needed(plan, plan.privacy, terms, count) for count in sorted(set(units.values()))}
        needed = {name: by_count[count] for name, count in units.items()}
    if needed and is_distributed(plan):
        _check_noise(plan, plan.privacy, terms, needed)
    return {"noise_multiplier": plan.privacy.noise_multiplier, "institutions": needed}


def _units(plan: Plan, asked: Privacy, home: Path, simulation: Simulation) -> dict[str, int]:
    """How many units each simulated institution trains on."""
    if not (home / simulation.source).is_file():
        raise SimulationError(f"{home / simulation.source} is no file, and noise depends on its records; correct simulation.source")
    if asked.unit == "group" and not simulation.group:
        raise SimulationError('privacy.unit is "group" and no field names the groups; name it as simulation.group')
    units = {name: len(units_of(one.train, asked.unit)) for name, one in prepare(plan, home).datasets.items()}
    for name in (min(units, key=units.__getitem__), max(units, key=units.__getitem__)):
        _check_units(asked, name, units[name])
    return units


def _check_units(asked: Privacy, name: str, units: int) -> None:
    """Refuses what a node refuses of its own records."""
    if not units:
        raise SimulationError(f"{name} has no {asked.unit}s to train on; correct simulation.group or the records")
    if asked.delta >= 1.0 / units:
        raise SimulationError(
            f"privacy.delta {asked.delta:g} is not below 1 / N of the {units:,} {asked.unit}s of {name}; set it below {1.0 / units:.2g}"
        )


def _needed(plan: Plan, asked: Privacy, terms: Terms, units: int) -> Mapping[str, float]:
    rate, before = sampling_rate(plan, units), label_releases(plan)
    if is_distributed(plan):
        noise = _under_the_sum(plan, asked, terms, rate, before)
    else:
        noise = calibrate(asked.epsilon, asked.delta, rate, plan.rounds * plan.training.local_steps, before)
    return {"units": units, "sampling_rate": rate, "noise_multiplier": noise, "delta_below": 1.0 / units}


def _check_noise(plan: Plan, asked: Privacy, terms: Terms, needed: Mapping[str, Mapping[str, float]]) -> None:
    """Refuses a plan whose noise under the sum is less than the institution needs that needs most."""
    name, most = max(needed.items(), key=lambda one: one[1]["noise_multiplier"])
    stated = asked.noise_multiplier or 0.0
    if stated >= most["noise_multiplier"]:
        return
    enough = _enough(plan, asked, terms, most)
    raise SimulationError(
        f"privacy.noise_multiplier is {stated:g}, and with {most['units']:,} {asked.unit}s {name} needs {enough:g} for epsilon "
        f"{asked.epsilon:g}; set it to {enough:g} or more"
    )


def _enough(plan: Plan, asked: Privacy, terms: Terms, most: Mapping[str, float]) -> float:
    """Three digits that suffice on their own grid: more noise makes the grid coarser, on which a little more is needed."""
    enough, needed = 0.0, most["noise_multiplier"]
    while enough < needed:
        enough = _rounded_up(needed)
        noisier = plan.model_copy(update={"privacy": asked.model_copy(update={"noise_multiplier": enough})})
        needed = _under_the_sum(noisier, asked, terms, most["sampling_rate"], label_releases(plan))
    return enough


def _rounded_up(value: float) -> float:
    """To three significant digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.ceil(value / unit) * unit:.3g}")


def _under_the_sum(plan: Plan, asked: Privacy, terms: Terms, rate: float, before: Sequence[AnySpend]) -> float:
    start = terms.start()
    grids = [grid_of(plan, dimension_of(terms.trained(start, PlannedSum(n, "update", True)))) for n in range(1, plan.rounds + 1)]
    l2, l1 = max(grid.l2 for grid in grids), max(grid.l1 for grid in grids)
    return math.sqrt(calibrate_skellam(asked.epsilon, asked.delta, rate, plan.rounds, l2, l1, before)) / l2
