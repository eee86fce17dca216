"""A stage under way waits neither for an institution that was revoked meanwhile, nor on for a run that the operator stops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flwr.app import Message

from coordinator.absences import absences
from coordinator.errors import RunStopped
from coordinator.events import SumFinished
from coordinator.exchange import InProcessGrid
from coordinator.registry.states import RunState, WantedState
from coordinator.stage_record import Stage, StageRecord, read_stage
from tests.federation.federation import NAMES, Federation, make_plan
from tests.federation.private_plans import SMALL

ALL = tuple(sorted(NAMES))
SILENT = 14  # Flower's number of the fourth institution


@pytest.fixture
def federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Federation]:
    """One whose deadline no test waits for."""
    monkeypatch.setattr("coordinator.exchange.LOOK_SECONDS", 0.0)
    made = Federation(tmp_path, make_plan(rounds=1, trainable=SMALL, participation={"quorum": 3, "deadline": "1h", "retries": 0}))
    yield made
    made.close()


def silent(monkeypatch: pytest.MonkeyPatch, stage: str, do: Callable[[], None]) -> None:
    """The fourth institution never answers a stage; each look for its answer calls `do`."""

    class Silent(InProcessGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            (identifier,) = message_ids
            request = self._requests.get(identifier)
            if request is None or (request.metadata.message_type, request.metadata.dst_node_id) != (stage, SILENT):
                return super().pull_messages([identifier])
            do()
            return []

    monkeypatch.setattr("tests.federation.federation.InProcessGrid", Silent)


@pytest.mark.parametrize("stage", ["train.sum", "query.survivors", "query.unmask"])
def test_who_is_revoked_is_waited_for_no_longer(federation: Federation, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    def revoke() -> None:
        if federation.registry.participant("dov").revoked_at is None:
            federation.registry.revoke("dov", "it left the study")

    silent(monkeypatch, stage, revoke)
    result = federation.run()
    told = [absence for absence in absences(federation.registry.rounds(result.run)) if absence.institution == "dov"]
    assert {absence.reason for absence in told} <= {"the operator revoked it (it left the study)"}
    assert told or stage != "train.sum"


@pytest.mark.parametrize("stage", ["query.epoch_keys", "evaluate.sum"])
def test_a_run_is_stopped_while_nothing_is_proposed(federation: Federation, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    silent(monkeypatch, stage, lambda: _stop(federation))
    with pytest.raises(RunStopped, match="stopped by the operator"):
        federation.run()
    assert federation.registry.runs()[0].state is RunState.STOPPED


def test_who_is_waited_for_is_on_record_meanwhile(federation: Federation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record, seen = StageRecord(tmp_path, lambda: datetime.now(UTC)), list[Stage | None]()

    def look_and_stop() -> None:
        seen.append(read_stage(tmp_path))
        _stop(federation)

    silent(monkeypatch, "evaluate.sum", look_and_stop)
    with pytest.raises(RunStopped):
        federation.run(record.note)
    last = seen[-1]
    assert last is not None and (last.kind, last.stage, last.answered, last.waiting) == ("evaluate", "evaluate.sum", ALL[:3], ("dov",))


def test_a_sum_with_a_proposed_set_is_finished_first(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_and_answer() -> None:
        _stop(federation)
        monkeypatch.setattr("tests.federation.test_attending.SILENT", 0)

    silent(monkeypatch, "query.unmask", stop_and_answer)
    with pytest.raises(RunStopped):
        federation.run()
    assert [one.kind for one in federation.of(SumFinished)] == ["evaluate"]


def _stop(federation: Federation) -> None:
    federation.registry.set_wanted(federation.registry.runs()[0].run, WantedState.STOPPED)
