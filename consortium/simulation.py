"""A whole consortium in one process: the handlers, messages, secure sums and registry of a deployment, without the network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import torch
from flwr.app import Context, RecordDict

from client.client_app import OpenNode, make_client_app
from client.dataset import Datasets
from client.institution import open_node
from client.node import Node
from client.personal_training import as_measured
from client.workbench import Base, Workbench, load_base
from consortium.baseline_process import BaselineProcess, BaselineProgress
from consortium.personalisation import TuneProgress, is_personal, kept_by, own_models
from consortium.preparation import check_device, prepare
from consortium.privacy import privacy_of
from consortium.report import Baselines, Outcome, RecordCounts, Report, make_report, read_report
from consortium.workplace import Workplace, open_workplace
from coordinator.errors import ReleaseRefused
from coordinator.events import Event
from coordinator.exchange import Exchange, InProcessGrid
from coordinator.job import Operator, run_plan
from coordinator.members import constant
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState
from coordinator.release import TrainedModel, release_model
from coordinator.store import RunStore
from model.layout import Adaptation, AdapterConfig
from model.release import read_release
from protocols.plan import Plan, load_plan, parse_plan
from protocols.state import State
from protocols.terms import Terms

Watcher: TypeAlias = Callable[[Event | BaselineProgress | TuneProgress], None]


@dataclass(frozen=True, slots=True)
class _Simulated:
    """What all nodes of the process share."""

    place: Workplace
    base: Base
    benches: Mapping[str, Workbench]


def simulate(
    plan: Path | str | Plan,
    out: Path | str | None = None,
    *,
    seed: int | None = None,
    rounds: int | None = None,
    baselines: bool = True,
    overwrite: bool = False,
    device: str | None = None,
    on_event: Watcher = lambda _: None,
    environment: Mapping[str, str] | None = None,
) -> Report:
    """Runs a plan with simulated institutions and compares it with what each reaches alone and all reach with pooled records.

    An unfinished run of the same plan, seed and records in `out` goes on, on its own device; a finished one is reported again. `device`
    ("cpu", "cuda", "cuda:N") holds the base that all institutions share.

    Raises:
        ConsortiumError, ModelError: what cannot be used, in one sentence; where it is plan, base or records, nothing was written.
        OSError: a file cannot be written.
    """
    torch.set_num_threads(1)  # the federation and the baselines take one core each
    read, home = (plan, Path.cwd()) if isinstance(plan, Plan) else (load_plan(Path(plan)), Path(plan).resolve().parent)
    prepared = prepare(_changed(read, seed, rounds), home)
    place = open_workplace(prepared, Path(out or f"consortium-{read.name}"), overwrite, device)
    earlier = read_report(place.report_file)
    if earlier is not None and (earlier["pooled"] is not None or not baselines):
        return earlier
    check_device(place.hardware.device)
    process = BaselineProcess(place, on_event, os.environ if environment is None else environment) if baselines else None
    try:
        outcome = _federate(place, prepared.datasets, on_event)
        found = process.finish() if process else Baselines()
    finally:
        if process:
            process.stop()
    return make_report(place.plan, outcome, found, place.report_file)


def _changed(plan: Plan, seed: int | None, rounds: int | None) -> Plan:
    changes = {name: value for name, value in (("seed", seed), ("rounds", rounds)) if value is not None}
    return parse_plan(plan.model_dump(by_alias=True) | changes, "the arguments of simulate")


def _federate(place: Workplace, datasets: Mapping[str, Datasets], on_event: Watcher) -> Outcome:
    base = load_base(place.base, place.hardware)
    hardware = {name: place.settings(name).hardware for name in datasets}
    benches = {name: Workbench(place.plan, base, one.train, one.test, hardware[name]) for name, one in datasets.items()}
    simulated = _Simulated(place, base, benches)
    registry = Registry.open(str(place.out / "registry.db"), _now)
    try:
        run = registry.find_run(place.plan.sha256, place.plan.seed)
        finished = run is not None and run.state is RunState.FINISHED
        return _outcome(simulated, registry, run.run if run and finished else _train(simulated, registry, on_event), on_event)
    finally:
        registry.close()


def _train(simulated: _Simulated, registry: Registry, on_event: Watcher) -> str:
    """The run's id, once it is finished."""
    place = simulated.place
    operator = Operator(place.operator, constant(place.roster), os.urandom)
    nodes = {number: _node(simulated, name) for number, name in enumerate(place.names, 1)}
    apps = {number: make_client_app(_always(node)) for number, node in nodes.items()}
    contexts = {number: Context(run_id=1, node_id=number, node_config={}, state=RecordDict(), run_config={}) for number in apps}
    adapter = AdapterConfig.from_fields(place.plan.adapter_fields)
    try:
        result = run_plan(
            place.plan,
            Exchange(InProcessGrid(apps, contexts), poll_seconds=0.0),
            registry,
            adaptation=Adaptation(simulated.base.net.config, adapter, place.plan.seed),
            operator=operator,
            directory=place.out / "runs",
            on_event=on_event,
        )
    finally:
        for node in nodes.values():
            node.ledger.close()
    return result.run


def _always(node: Node) -> OpenNode:
    return lambda _: node


def _node(simulated: _Simulated, name: str) -> Node:
    # Public, so that a run of the same seed ends with the same bits; a deployed node takes rounding from the operating system.
    rounding = hashlib.sha256(f"rounding {name} {simulated.place.plan.seed}".encode()).digest()
    return open_node(simulated.place.institutions / name, lambda _: simulated.benches[name], _now, rounding)


def _outcome(simulated: _Simulated, registry: Registry, run: str, on_event: Watcher) -> Outcome:
    """Releases the finished run's model and measures it at each institution, beside the institution's own."""
    place = simulated.place
    store = RunStore(place.out / "runs" / run)
    journal = store.journal
    state = store.state(journal.state_sha256)
    trained = TrainedModel(run, state, journal.transcript, journal.threshold, place.plan.secure_aggregation.colluding)
    model = _released(place, registry, trained)
    benches, kept = simulated.benches, {name: kept_by(place, name, run) for name in simulated.benches}
    own = {name: _measured(b, as_measured(Terms(place.plan, b.adaptation), state, kept[name])) for name, b in benches.items()}
    personal = own_models(place, benches, state, kept, read_release(Path(model)) if model else None, on_event)
    personalised = {name: _measured(benches[name], its) for name, its in personal.items()} if is_personal(place.plan) else None
    records = {name: _counted(bench) for name, bench in benches.items()}
    rounds = registry.rounds(run)
    privacy = privacy_of(place, simulated.base.net.config, run, rounds)
    return Outcome(rounds, state.experts, records, journal.threshold, own, model, personalised, privacy)


def _released(place: Workplace, registry: Registry, trained: TrainedModel) -> str | None:
    models = place.out / "models"
    try:
        version = release_model(registry, place.plan, trained, identity=place.operator, models=models, now=_now(), tokenizer=place.base)
    except ReleaseRefused:
        return None
    return str(models / version.path)


def _measured(bench: Workbench, state: State) -> float:
    sums = bench.evaluate(state.tensors, state.experts)
    return sums.numerator / sums.denominator


def _counted(bench: Workbench) -> RecordCounts:
    train, test = bench.train_set, bench.test_set
    return RecordCounts(len(train.examples), bench.test_records, train.truncated + test.truncated, train.dropped + test.dropped)


def _now() -> datetime:
    return datetime.now(UTC)
