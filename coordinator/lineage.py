"""Where a model version comes from, as the registry has it: whose rounds it contains, who was missing, what was decided."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.absences import Absence, absences
from coordinator.errors import RegistryError
from coordinator.gate import Override, final_metric, overrides
from coordinator.registry.records import ModelVersion, Round, Run
from coordinator.registry.registry import Registry
from coordinator.submitted_plan import promise_of
from protocols.privacy.statement import Statement


@dataclass(frozen=True, slots=True)
class Lineage:
    """A version with everything that led to it."""

    version: ModelVersion
    run: Run
    rounds: tuple[Round, ...]
    promise: Statement | None
    overrides: tuple[Override, ...]  # that it was released by; empty if it met its plan's requirements
    withdrew: tuple[str, ...]  # institutions whose rounds it contains, and which withdrew from the run since

    @property
    def institutions(self) -> tuple[str, ...]:
        return contained(self.rounds)

    @property
    def absences(self) -> tuple[Absence, ...]:
        return absences(self.rounds)

    @property
    def metrics(self) -> tuple[float | None, float | None]:
        """Of the base, and of the model."""
        return self.rounds[0].metric if self.rounds else None, final_metric(self.rounds)


def lineage(registry: Registry, version: ModelVersion) -> Lineage:
    """What the registry says of a version."""
    run = registry.run(version.run)
    decided, gone = overrides(registry.events(run.run)), withdrew(registry, run.run)
    return Lineage(version, run, registry.rounds(run.run), promise_of(run), decided, gone)


def model_named(registry: Registry, name: str, version: int | None = None) -> ModelVersion:
    """A version by its name and number, or the latest of the name.

    Raises:
        RegistryError: there is none.
    """
    found = [one for one in registry.model_versions() if one.name == name and version in (None, one.version)]
    if not found:
        which = name if version is None else f"{name} {version}"
        raise RegistryError(f"there is no released model {which!r}; `consortium coordinator models` lists them")
    return found[-1]


def withdrew(registry: Registry, run: str) -> tuple[str, ...]:
    """Institutions whose rounds a run contains, and which withdrew from it or from all runs, by name."""
    gone = {one.institution for one in registry.withdrawals(run)}
    return tuple(name for name in contained(registry.rounds(run)) if name in gone) if gone else ()


def contained(rounds: tuple[Round, ...]) -> tuple[str, ...]:
    """Institutions that were in all sums of a round, of any, by name."""
    return tuple(sorted({part.institution for one in rounds for part in one.contributions if not part.missing_from}))
