"""The process of one run: `python -P -m coordinator.run_process --home HOME --run RUN`; started by `serve`, and again when it dies."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from coordinator.errors import JobError, RunStopped
from coordinator.events import Event, RoundFinished, RunFailed, RunFinished, RunPaused, RunResumed, RunStarted, StageFinished
from coordinator.exchange import Exchange
from coordinator.flower_link import FlowerLink
from coordinator.job import Operator, run_plan
from coordinator.offers import present_roster
from coordinator.operator_home import open_operator_home
from coordinator.registry.records import Run
from coordinator.registry.registry import Registry
from coordinator.serve.places import Places
from coordinator.serve.stage_times import StageTimes
from coordinator.stage_record import StageRecord, attempted
from model.config import read_config
from model.layout import Adaptation, AdapterConfig
from protocols.bundle import installed_bundle
from protocols.errors import ConsortiumError
from protocols.logs import write_logs
from protocols.plan import plan_from_canonical
from protocols.proxies import without_proxy

PATIENCE_SECONDS = 15.0
logger = logging.getLogger("consortium.coordinator")


def run(folder: Path, name: str) -> None:
    """Drives the run to its end, over Flower.

    Raises:
        ConsortiumError: it failed or was stopped, which the registry says, or cannot be driven now.
    """
    places = Places(open_operator_home(folder))
    registry = places.home.open_registry(_now).patient(places.home.settings.serve.database_patience)
    try:
        chosen = registry.run(name)
        if not chosen.state.ended:
            _drive(places, registry, chosen)
    finally:
        registry.close()


def _drive(places: Places, registry: Registry, chosen: Run) -> None:
    plan, files = plan_from_canonical(chosen.plan.encode()), places.superlink
    address = f"127.0.0.1:{places.home.settings.serve.superlink_port}"
    link = FlowerLink(address, files.authority.read_bytes(), files.secret.read_bytes())
    adaptation = Adaptation(read_config(places.base(plan.base.sha256)), AdapterConfig.from_fields(plan.adapter_fields), plan.seed)
    operator = Operator(places.home.identity, lambda: present_roster(registry), os.urandom, patience=PATIENCE_SECONDS, awaits_answers=True)
    times, stage = StageTimes(places.stage_times(chosen.run), time.monotonic), StageRecord(places.runs / chosen.run, _now)

    def tell(event: Event) -> None:
        times.note(event)
        stage.note(event)
        told(event)

    with link.driving(installed_bundle(), places.claims) as grid:
        exchange = Exchange(grid, connected=link.connected)
        run_plan(plan, exchange, registry, adaptation=adaptation, operator=operator, directory=places.runs, on_event=tell)


def told(event: Event) -> None:
    """Lines for what an operator wants to read in the log, one for each institution that is missing."""
    about = {"event": _name_of(event), "round": getattr(event, "round", None)}
    if (line := line_of(event)) is not None:
        logger.info(line, extra=about)
    if isinstance(event, StageFinished):
        for who, why in event.missing:
            logger.warning("%s: %s", who, why, extra={**about, "event": "institution_missing", "institution": who})


def _name_of(event: Event) -> str:
    """Such as `round_finished`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()


def line_of(event: Event) -> str | None:
    """The event in words; None for what no operator reads."""
    match event:
        case RunStarted(name, rounds, done):
            line = f"run {name} begins: {rounds} rounds" if done is None else f"run {name} goes on after round {done} of {rounds}"
        case StageFinished(number, kind, attempt, stage, answered, missing):
            away = f", {len(missing)} did not" if missing else ""
            line = f"round {number}, {kind} sum{attempted(attempt)}: {len(answered)} answered {stage}{away}"
        case RoundFinished():
            line = f"round {event.round} is over with {event.institutions} institutions"
        case RunPaused(name, reason):
            line = f"run {name} waits: {reason}"
        case RunResumed(name) | RunFinished(name):
            line = f"run {name} {'goes on' if isinstance(event, RunResumed) else 'is finished'}"
        case RunFailed(name, reason):
            line = f"run {name} failed: {reason}"
        case _:
            return None
    return line


def _now() -> datetime:
    return datetime.now(UTC)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(arguments: list[str]) -> int:
    """0 when the run has ended, in whatever way; 1 when it is to be tried again."""
    parser = argparse.ArgumentParser(prog="coordinator.run_process")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", required=True)
    given = parser.parse_args(arguments)
    os.environ.update(without_proxy(os.environ))
    signal.signal(signal.SIGTERM, _end)
    write_logs("run", sys.stdout, run=given.run)
    try:
        run(given.home, given.run)
    except RunStopped as stopped:
        logger.info(str(stopped), extra={"event": "run_stopped"})
    except ConsortiumError as error:
        logger.error(str(error), extra={"event": "run_ended" if isinstance(error, JobError) else "run_interrupted"})
        return 0 if isinstance(error, JobError) else 1
    except OSError as error:
        what = "%s: %s; the run goes on when this is put right, such as by free space"
        logger.error(what, error.filename or given.home, error.strerror, extra={"event": "run_interrupted"})
        return 1
    except Exception as error:  # its text may hold what no log should
        logger.critical("the process of run %s failed with %s", given.run, error, extra={"event": "run_interrupted"})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
