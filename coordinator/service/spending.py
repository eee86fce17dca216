"""Spent: what the registry says an institution may have spent in private runs, for a ledger that was restored."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.registry.records import Run
from coordinator.registry.registry import Registry
from coordinator.service.served import Member, Resources, Served
from protocols.service import SPENT, SpentRequest, SpentRun


def _spent(resources: Resources, caller: Member, _: SpentRequest) -> Iterator[SpentRun]:
    for run in resources.registry.runs():
        yield from _in_run(resources.registry, run, caller.name)


def _in_run(registry: Registry, run: Run, name: str) -> Iterator[SpentRun]:
    """One message, or none where nothing was spent."""
    charged = [(finished.number, one) for finished in registry.rounds(run.run) for one in finished.spent if one.institution == name]
    if charged:
        epsilon, delta = (max(getattr(one, name) for _, one in charged) for name in ("epsilon", "delta"))
        yield SpentRun(run.run, run.plan.encode(), charged[-1][0], repr(epsilon), repr(delta))


SPENDING = (Served(SPENT, (Member,), _spent),)
