"""What SQLite and PostgreSQL keep differently is read back the same: times, JSON, booleans, long numbers."""

from datetime import datetime, timedelta, timezone

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.registry import Registry
from coordinator.registry.records import Answer, Contribution, NewRun, Round
from tests.coordinator.postgresql import both

pytestmark = both
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(offset=st.integers(-86399, 86399), microseconds=st.integers(0, 10**15))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_times_keep_their_instant_in_every_zone(location: str, new_run: NewRun, offset: int, microseconds: int) -> None:
    zone = timezone(timedelta(seconds=offset))
    at = datetime(2001, 1, 1, tzinfo=zone) + timedelta(microseconds=microseconds)
    registry = Registry.open(location, lambda: at)
    length = registry.head().length
    run = registry.create_run(new_run, length.to_bytes(4, "big"))
    assert run.created_at == at == registry.runs()[-1].created_at
    assert registry.verify_chain().length == length + 1
    registry.close()


@given(loss=NUMBERS, figures=st.dictionaries(st.sampled_from(["norm", "ü", "a b"]), NUMBERS), large=st.integers(0, 2**63 - 1))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_and_json_are_read_as_they_were_written(
    registry: Registry, running: str, loss: float, figures: dict[str, float], large: int
) -> None:
    number = len(registry.rounds(running))
    parts = (Contribution("amber", large, 0), Contribution("birch", 0, large, "update sum", "it was not reached within 60 s"))
    experts = {12: (3, 1), 2: ()} if number % 2 else None
    finished = Round(number, "c" * 64, {"z": "1" * 64, "a": "0" * 64}, parts, abs(loss), loss, None, experts, figures=figures)
    recorded = registry.record_round(running, finished)
    assert registry.rounds(running)[-1] == recorded
    assert (recorded.loss, dict(recorded.figures), recorded.contributions) == (loss, figures, parts)
    assert list(recorded.transcripts) == ["z", "a"]
    assert recorded.experts == experts


def test_booleans_are_booleans(registry: Registry, running: str) -> None:
    for accepted in (True, False):
        registry.record_answer(running, Answer("amber", accepted, "", "{}", "0" * 128))
        assert registry.answers(running)[0].accepted is accepted


def test_both_databases_have_the_same_hashes(registry: Registry, new_run: NewRun) -> None:
    at = registry.create_run(new_run, b"\1").created_at
    beside = Registry.open("sqlite://", lambda: at)
    beside.create_run(new_run, b"\1")
    assert beside.head() == registry.head()
    beside.close()
