"""What the registry records, refuses, and finds again."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from coordinator.errors import IllegalTransition, RegistryError
from coordinator.registry import Registry
from coordinator.registry.records import Contribution, ModelVersion, NewRun, Participant, Round
from coordinator.registry.states import RunState, WantedState
from tests.coordinator.postgresql import both

pytestmark = both
MakeRound = Callable[..., Round]


@pytest.fixture
def make_round() -> MakeRound:
    def make(number: int, **changes: object) -> Round:
        parts = (Contribution("amber", 10, 20), Contribution("birch", 1, 2, "update sum"))
        return replace(Round(number, "c" * 64, {"update": "1" * 64, "evaluate": "0" * 64}, parts, 1.25, 0.5, 0.75), **changes)  # type: ignore[arg-type]

    return make


def test_run_is_submitted_and_found_again(registry: Registry, new_run: NewRun) -> None:
    run = registry.create_run(new_run, b"\xab\xcd")
    assert (run.run, run.state, run.wanted, run.reason) == ("triage-abcd", RunState.SUBMITTED, WantedState.RUNNING, "")
    assert registry.find_run(new_run.plan_sha256, new_run.seed) == run
    assert registry.find_run(new_run.plan_sha256, new_run.seed + 1) is None
    assert registry.run("triage-ab") == run


def test_latest_of_two_equal_runs_is_found(registry: Registry, new_run: NewRun) -> None:
    registry.create_run(new_run, b"\x01")
    assert registry.find_run(new_run.plan_sha256, new_run.seed) != registry.create_run(new_run, b"\x02")
    assert len(registry.runs()) == 2


def test_unknown_or_ambiguous_run_is_refused(registry: Registry, new_run: NewRun) -> None:
    registry.create_run(new_run, b"\x01")
    registry.create_run(new_run, b"\x02")
    with pytest.raises(RegistryError, match=r"more than one run begins with .*\(submitted\), .*\(submitted\); give one"):
        registry.run("triage")
    for name in ("other", "", "%", "triage_01"):
        with pytest.raises(RegistryError, match="there is no run"):
            registry.run(name)


def test_everything_survives_closing(location: str, clock: Callable[[], datetime], new_run: NewRun) -> None:
    first = Registry.open(location, clock)
    run, head = first.create_run(new_run, b"\x01"), first.head()
    first.close()
    second = Registry.open(location, clock, read_only=True)
    assert (second.runs(), second.head()) == ((run,), head)
    second.close()


def test_illegal_transition_changes_nothing(registry: Registry, new_run: NewRun) -> None:
    run, head = registry.create_run(new_run, b"\x01"), registry.head()
    with pytest.raises(IllegalTransition, match="is submitted and cannot become finished"):
        registry.set_state(run.run, RunState.FINISHED)
    assert registry.run(run.run) == run
    assert registry.head() == head


def test_run_that_fails_half_way_says_so(registry: Registry, running: str, make_round: MakeRound) -> None:
    registry.record_round(running, make_round(0))
    registry.set_state(running, RunState.FAILED, "birch stopped answering in round 1; start it again")
    run = registry.run(running)
    assert (run.state, run.reason) == (RunState.FAILED, "birch stopped answering in round 1; start it again")
    assert run.ended_at is not None
    assert len(registry.rounds(running)) == 1
    with pytest.raises(RegistryError, match="only a running one records rounds"):
        registry.record_round(running, make_round(1))


def test_failure_needs_a_reason(registry: Registry, running: str) -> None:
    with pytest.raises(RegistryError, match="without a reason"):
        registry.set_state(running, RunState.FAILED)
    assert registry.run(running).state is RunState.RUNNING


def test_wanted_state_is_kept_until_the_run_ended(registry: Registry, running: str) -> None:
    assert registry.set_wanted(running, WantedState.PAUSED).wanted is WantedState.PAUSED
    assert registry.run(running).state is RunState.RUNNING
    head = registry.head()
    assert registry.set_wanted(running, WantedState.STOPPED, instead_of=WantedState.RUNNING).wanted is WantedState.PAUSED
    assert registry.head() == head
    registry.set_state(running, RunState.STOPPED, "the operator stopped it")
    with pytest.raises(RegistryError, match="obeys no more"):
        registry.set_wanted(running, WantedState.RUNNING)


def test_round_is_read_as_it_was_written(registry: Registry, running: str, make_round: MakeRound) -> None:
    given_round = make_round(0, experts={3: (1, 2), 1: (7,)}, figures={"acceptance": 0.1 + 0.2, "norm": 2.0})
    recorded = registry.record_round(running, given_round)
    assert replace(recorded, finished_at=None) == given_round
    assert registry.rounds(running) == (recorded,)
    assert list(recorded.transcripts) == ["update", "evaluate"]
    assert (recorded.institutions, recorded.missing, recorded.bytes_up, recorded.bytes_down) == (1, ("birch",), 11, 22)


def test_rounds_come_once_and_in_order(registry: Registry, running: str, make_round: MakeRound) -> None:
    with pytest.raises(RegistryError, match="expects round 0 next, not round 1"):
        registry.record_round(running, make_round(1))
    registry.record_round(running, make_round(0))
    with pytest.raises(RegistryError, match="expects round 1 next, not round 0"):
        registry.record_round(running, make_round(0))
    assert [one.number for one in registry.rounds(running)] == [0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [("stranger", "stranger of round 0 is not in the registry"), ("nan", "not JSON compliant"), ("figure", "not JSON compliant")],
)
def test_bad_round_leaves_no_trace(registry: Registry, running: str, make_round: MakeRound, change: str, complaint: str) -> None:
    changes: dict[str, dict[str, object]] = {
        "stranger": {"contributions": (Contribution("stranger", 1, 1),)},
        "nan": {"loss": float("nan")},
        "figure": {"figures": {"acceptance": float("nan")}},
    }
    bad = make_round(0, **changes[change])
    head = registry.head()
    with pytest.raises((RegistryError, ValueError), match=complaint):
        registry.record_round(running, bad)
    assert registry.rounds(running) == ()
    assert registry.head() == head


def test_key_of_an_institution_does_not_change_silently(registry: Registry) -> None:
    registry.record_participants([Participant("amber", "0" * 64)])
    registry.record_participants([Participant("amber", "0" * 64)])
    with pytest.raises(RegistryError, match="amber is registered with another key"):
        registry.record_participants([Participant("birch", "2" * 64), Participant("amber", "1" * 64)])
    assert [(one.name, one.public_key) for one in registry.participants()] == [("amber", "0" * 64)]


def test_model_version_is_listed_under_its_run(registry: Registry, running: str, new_run: NewRun) -> None:
    version = ModelVersion("triage", 1, running, "triage/1", "a" * 64, "d" * 64, "e" * 64, 0.5)
    assert replace(registry.add_model_version(version), released_at=None) == version
    other = registry.create_run(new_run, b"\x09").run
    assert len(registry.model_versions(running)) == len(registry.model_versions()) == 1
    assert registry.model_versions(other) == ()
