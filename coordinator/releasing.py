"""A finished run of a deployment, released from the files that it left in the operator's home."""

from __future__ import annotations

from datetime import datetime

from coordinator.errors import ReleaseRefused
from coordinator.operator_home import OperatorHome
from coordinator.registry.records import ModelVersion
from coordinator.registry.registry import Registry
from coordinator.release import TrainedModel, release_model
from coordinator.store import RunStore
from coordinator.submitted_plan import submitted_plan


def release_run(home: OperatorHome, registry: Registry, run: str, now: datetime, override: str = "") -> ModelVersion:
    """Writes the model of a run, named by its id or the beginning of it, or returns the version that it has.

    Raises:
        ReleaseRefused: it has not finished, or does not meet its plan's requirements and `override` gives no reason.
        JobError, StateError: a file of the run is missing or damaged.
    """
    found = registry.run(run)
    plan, store = submitted_plan(found), RunStore(home.runs / found.run)
    journal = store.journal
    if not journal.state_sha256:
        raise ReleaseRefused(f"run {found.run} left no state in {store.directory}; it is {found.state.value}")
    trained = TrainedModel(
        found.run, store.state(journal.state_sha256), journal.transcript, journal.threshold, plan.secure_aggregation.colluding
    )
    tokenizer = home.base_directory(plan.base.name) if plan.base.name in home.settings.bases else None
    return release_model(
        registry, plan, trained, identity=home.identity, models=home.models, now=now, tokenizer=tokenizer, override=override
    )
