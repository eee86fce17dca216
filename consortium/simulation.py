"""`consortium simulate`: a whole consortium in one process, over serialised Flower messages and real secure sums."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flwr.app import Context, RecordDict

from client.client_app import make_client_app
from client.settings import HardwareSettings
from client.sources import Row
from client.template import parse_template
from client.workbench import Base, load_base
from consortium.institutions import Institutions, found_institutions
from consortium.partition import partition, read_source
from coordinator.events import Event
from coordinator.exchange import Exchange, InProcessGrid
from coordinator.job import Operator, RunResult, run_plan
from coordinator.registry.registry import Registry
from coordinator.release import TrainedModel, release_model
from model.bases import bundled_base, bundled_names
from model.layout import AdapterConfig, Adaptation
from protocols.errors import ConsortiumError, PlanError
from protocols.files import write_file
from protocols.plan import Plan, load_plan


@dataclass(frozen=True, slots=True)
class _Simulation:
    """A plan that is ready to run: choices and base hash filled in, institutions founded."""

    plan: Plan
    out: Path
    base_directory: Path
    base: Base
    institutions: Institutions


def simulate(
    plan_path: str | Path,
    out: str | Path,
    *,
    seed: int | None = None,
    rounds: int | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> dict[str, Any]:
    """Runs a plan and returns its report, the content of `out/report.json`. An unfinished run in `out` goes on.

    This version measures the base and the federated model; the baselines' figures are null.

    Raises:
        ConsortiumError, ModelError: what is wrong with plan, records, base or directory, in one sentence.
    """
    simulation = _prepare(Path(plan_path), Path(out), seed, rounds)
    finished = simulation.out / "report.json"
    if finished.exists():
        report: dict[str, Any] = json.loads(finished.read_text(encoding="utf-8"))
        return report
    registry = Registry.open(str(simulation.out / "registry.db"), _now)
    try:
        result = _run(simulation, registry, on_event)
        report = _report(simulation, registry, result)
    finally:
        registry.close()
    write_file(finished, json.dumps(report, indent=2).encode() + b"\n")
    return report


def _prepare(path: Path, out: Path, seed: int | None, rounds: int | None) -> _Simulation:
    plan = _overridden(load_plan(path), seed, rounds)
    if plan.simulation is None:
        raise PlanError(f"{path}: simulation is missing; name the records in [simulation] source")
    rows = read_source(str(path.resolve().parent / plan.simulation.source), plan.seed)
    parts = partition(rows, plan.simulation, plan.seed)
    if plan.evaluation.metric == "accuracy" and not plan.evaluation.choices:
        plan = plan.with_choices(_targets([row for part in parts.values() for row in part], plan))
    directory = _base_directory(plan.base.name, path.resolve().parent)
    base = load_base(directory, HardwareSettings())
    if plan.base.sha256 not in ("", base.sha256):
        raise PlanError(f"{path}: base.sha256 is not that of {plan.base.name}; correct it or fetch the checkpoint again")
    plan = plan.model_copy(update={"base": plan.base.model_copy(update={"sha256": base.sha256})})
    _claim(out, plan)
    return _Simulation(plan, out, directory, base, found_institutions(out / "institutions", parts, plan, directory))


def _overridden(plan: Plan, seed: int | None, rounds: int | None) -> Plan:
    changes = {name: value for name, value in (("seed", seed), ("rounds", rounds)) if value is not None}
    return plan.model_copy(update=changes)


def _targets(rows: Sequence[Row], plan: Plan) -> tuple[str, ...]:
    template = parse_template(plan.records.target, "records.target")
    return tuple(sorted({template.render(row.values) for row in rows if row.values["split"] == "train"}))


def _base_directory(name: str, beside: Path) -> Path:
    return bundled_base(name) if name in bundled_names() else beside / name


def _claim(out: Path, plan: Plan) -> None:
    """Binds a directory to one plan and seed.

    Raises:
        ConsortiumError: it holds something else.
    """
    marker = out / "plan.json"
    if marker.exists() and marker.read_bytes() != plan.canonical():
        raise ConsortiumError(f"{out} holds the run of another plan or seed; give a new directory with --out")
    if not marker.exists() and out.exists() and any(out.iterdir()):
        raise ConsortiumError(f"{out} is not empty and holds no run; give a new directory with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_file(marker, plan.canonical())


def _run(simulation: _Simulation, registry: Registry, on_event: Callable[[Event], None]) -> RunResult:
    plan, institutions = simulation.plan, simulation.institutions
    nodes = {number: institutions.node(name, plan, simulation.base) for number, name in enumerate(institutions.names, 1)}
    apps = {number: make_client_app(lambda _, node=node: node) for number, node in nodes.items()}
    contexts = {n: Context(run_id=1, node_id=n, node_config={}, state=RecordDict(), run_config={}) for n in nodes}
    adapter = AdapterConfig.from_fields(plan.trainable.model_dump())
    try:
        return run_plan(
            plan,
            Exchange(InProcessGrid(apps, contexts), poll_seconds=0.0),
            registry,
            adaptation=Adaptation(simulation.base.net.config, adapter, plan.seed),
            operator=Operator(institutions.coordinator, institutions.roster, os.urandom),
            directory=simulation.out / "runs",
            on_event=on_event,
        )
    finally:
        for node in nodes.values():
            node.ledger.close()


def _report(simulation: _Simulation, registry: Registry, result: RunResult) -> dict[str, Any]:
    plan, rounds = simulation.plan, registry.rounds(result.run)
    measured = [one.metric for one in rounds if one.metric is not None]
    return {
        "schema": 1,
        "plan": {"name": plan.name, "sha256": plan.sha256},
        "seed": plan.seed,
        "base_sha256": plan.base.sha256,
        "metric": plan.evaluation.metric,
        "higher_is_better": plan.evaluation.higher_is_better,
        "test_records": result.test_records,
        "base": measured[0],
        "local_only": None,
        "federated": measured[-1],
        "federated_own": None,
        "personalised": None,
        "pooled": None,
        "rounds": [
            {
                "round": one.number,
                "institutions": one.institutions,
                "missing": list(one.missing),
                "loss": one.loss,
                "metric": one.metric,
                "seconds": one.seconds,
                "bytes_up": one.bytes_up,
                "bytes_down": one.bytes_down,
            }
            for one in rounds
            if one.number > 0
        ],
        "experts": {"selected": {str(layer): list(chosen) for layer, chosen in result.state.experts.items()}, "excluded": 0},
        "mtp": {"acceptance_before": None, "acceptance_after": None},
        "privacy": None,
        "secure_aggregation": {"threshold": result.threshold, "colluding": result.colluding},
        "model": _release(simulation, registry, result),
    }


def _release(simulation: _Simulation, registry: Registry, result: RunResult) -> str | None:
    """The released model's directory, or None where the plan's requirements are not met (the registry says why)."""
    trained = TrainedModel(result.run, result.state, result.transcript_sha256, result.threshold, result.colluding)
    models = simulation.out / "models"
    try:
        version = release_model(
            registry,
            simulation.plan,
            trained,
            identity=simulation.institutions.coordinator,
            models=models,
            now=_now(),
            tokenizer=simulation.base_directory,
        )
    except ConsortiumError:
        return None
    return str(models / version.path)


def _now() -> datetime:
    return datetime.now(UTC)
