"""I-9 for what people watch: a run whose every log line and figure of both sides is kept holds no record, count, loss or key."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from client.figures import Tally
from client.metrics import TALLY, NodeFigures
from client.work import MetricSums
from coordinator.events import Event
from coordinator.operator_home import OperatorHome
from coordinator.run_process import told
from coordinator.serve.figures import Figures
from coordinator.serve.places import Places
from coordinator.serve.stage_times import StageTimes
from coordinator.serve.supervisor import Supervisor
from coordinator.settings import CoordinatorSettings
from protocols.logs import write_logs
from protocols.metrics import serve_metrics
from protocols.privacy.accounting import Spend
from protocols.state import Experts, Tensors
from protocols.wire import Parcel
from tests.deployment.figures import page, scraped
from tests.deployment.processes import free_port
from tests.federation.attacks.adversary import rows
from tests.federation.attacks.canaries import CANARIES, LOSS, PROMPT, CanaryWork
from tests.federation.federation import Federation, make_plan

VICTIM = "ada"
SETTINGS = '[records]\nsource = "notes.csv"\ntest_fraction = 0.5\n[storage]\nhome = "{home}"\n'


@dataclass
class Stumbling(CanaryWork):
    """Quotes a record in the error that it raises once."""

    stumbled: bool = False

    def evaluate(self, tensors: Tensors, experts: Experts) -> MetricSums:
        if not self.stumbled:
            self.stumbled = True
            raise ValueError(f"cannot encode {PROMPT!r} with loss {LOSS}")
        return super().evaluate(tensors, experts)


@dataclass
class Watched:
    """A run that is over, with what was written of it."""

    federation: Federation
    folder: Path  # of the victim
    places: Places
    log: str


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    federation, stream = Federation(tmp_path, make_plan()), io.StringIO()
    federation.works[VICTIM] = Stumbling(VICTIM, federation.plan, federation.adaptation)
    folder, places = tmp_path / "institutions" / VICTIM, Places(OperatorHome(tmp_path, CoordinatorSettings()))
    tally, times = Tally(folder / TALLY), StageTimes(places.stage_times("run"), lambda: 0.0)

    def listen(name: str, message_type: str, _: Parcel, reply: Parcel) -> None:
        if name == VICTIM:
            tally.note(message_type, reply, 0.5)

    def watch(event: Event) -> None:
        times.note(event)
        told(event)

    federation.on_answer = listen
    root, flower, own = logging.getLogger(), logging.getLogger("flwr"), logging.getLogger("consortium")
    before = root.handlers, root.level, flower.handlers, flower.propagate, own.level
    write_logs("federation", stream)
    federation.run(watch)
    root.handlers, flower.handlers, flower.propagate = before[0], before[2], before[3]
    root.setLevel(before[1])
    own.setLevel(before[4])
    yield Watched(federation, folder, places, stream.getvalue())
    federation.close()


def test_canaries_are_in_no_log_and_no_figure(watched: Watched) -> None:
    federation, port = watched.federation, free_port()
    key = federation.nodes[VICTIM].identity._key.private_bytes_raw()
    canaries = {**CANARIES, "the loss in short": b"19.317", "a key": key, "a key in hexadecimal": key.hex().encode()}
    (watched.folder / "institution.toml").write_text(SETTINGS.format(home=watched.folder))
    supervisor = cast(Supervisor, SimpleNamespace(starts={"superlink": 1}))
    figures = Figures(federation.registry, watched.places, supervisor, lambda: True)
    with serve_metrics(port, figures, NodeFigures(watched.folder, lambda: datetime.now(UTC))):
        figures_page = page(port)
    written = {
        "the log": watched.log.encode(),
        "the figures": figures_page.encode(),
        "the registry": "\n".join(rows(federation.directory / "registry.db")).encode(),
        **{str(path): path.read_bytes() for path in [watched.folder / TALLY, *(federation.directory / "figures").iterdir()]},
    }
    assert [(what, where) for what, one in canaries.items() for where, data in written.items() if one in data] == []
    assert "ValueError at " in watched.log  # the stumbling was told


def test_lines_say_what_they_are_about(watched: Watched) -> None:
    lines = [json.loads(line) for line in watched.log.splitlines()]
    events = Counter(line.get("event") for line in lines)
    assert events["run_started"] == events["run_finished"] == 1 and events["round_finished"] == 3
    assert {line["institution"] for line in lines if line.get("event") == "institution_missing"} == {VICTIM}
    (failed,) = [line for line in lines if "ValueError at" in line["sentence"]]
    assert failed["run"].startswith("triage-") and failed["round"] == 0 and failed["level"] == "error"


def test_figures_of_a_node_are_those_of_its_ledger_and_answers(watched: Watched) -> None:
    node, port = watched.federation.nodes[VICTIM], free_port()
    (watched.folder / "institution.toml").write_text(SETTINGS.format(home=watched.folder))
    (watched.folder / "policy.toml").write_text("")
    node.ledger.privacy.reserve("private", 1, "record", [Spend(0.01, 1.0, 100)])
    with serve_metrics(port, NodeFigures(watched.folder, lambda: datetime.now(UTC))):
        found = scraped(port)
    assert found["node_ledger_readable",] == 1 and found["node_rounds_total",] == 3
    assert found["node_answer_seconds_sum", "train.sum"] == 0.5 * found["node_answer_seconds_count", "train.sum"] > 0
    assert found["node_bytes_sent_total", "train.sum"] > 1000 and found["node_refusals_total", "evaluate.sum"] >= 1
    assert 0 < found["node_epsilon_spent",] < 10 and found["node_last_message_timestamp_seconds",] > 1e9
