"""What a node makes Flower's own decoders stumble over costs that node alone, and what was lost on the way is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.inflatable.inflatable_object import add_header_to_object_body

from coordinator.exchange import Answer, Exchange, InProcessGrid
from coordinator.repeats import MOST_REPEATS
from protocols.errors import FlowerAway
from protocols.wire import Parcel, from_record, to_record


class _Inflating(InProcessGrid):
    """Puts replies together from objects whose content is the node's own, as Flower's grid does."""

    def __init__(self, kind: type[ConfigRecord] | type[MetricRecord] | type[ArrayRecord]) -> None:
        super().__init__({}, {})
        self._kind = kind

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        self._kind.inflate(add_header_to_object_body(b"junk", self._kind()))
        raise AssertionError("junk was read")


class _Slow(InProcessGrid):
    """Answers the messages of nodes when their time has come, and counts looks at messages that have no answer."""

    def __init__(self, times: Mapping[int, float]) -> None:
        super().__init__(dict.fromkeys(times, lambda message, _: Message(to_record(Parcel(b"")), reply_to=message)), dict.fromkeys(times))
        self._times = times
        self.now = 0.0
        self.vain = 0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        (identifier,) = message_ids
        if self._times[self._requests[identifier].metadata.dst_node_id] > self.now:
            self.vain += 1
            return []
        return super().pull_messages([identifier])


def nodes_that_answered(grid: _Slow, deadline: float, count: int) -> set[int]:
    exchange = Exchange(grid, 0.1, lambda: grid.now, grid.sleep)
    return {answer.node for answer in exchange.ask("query.hello", range(count), lambda _: Parcel(b""), "run/1", deadline)}


def test_looks_do_not_grow_with_the_number_of_nodes() -> None:
    grid = _Slow(dict.fromkeys(range(50), 2.0))
    assert nodes_that_answered(grid, 10.0, 50) == set(range(50))
    assert grid.vain <= 2.0 / 0.1 + 1


def test_deadline_takes_what_is_there_and_leaves_the_rest() -> None:
    grid = _Slow({node: 1.0 if node % 2 else 99.0 for node in range(20)})
    assert nodes_that_answered(grid, 1.05, 20) == set(range(1, 20, 2))


@pytest.mark.parametrize("kind", [ConfigRecord, MetricRecord, ArrayRecord])
def test_an_object_that_is_no_protobuf_or_json_costs_its_node_alone(
    kind: type[ConfigRecord] | type[MetricRecord] | type[ArrayRecord],
) -> None:
    (answer,) = Exchange(_Inflating(kind)).ask("query.hello", [1], lambda _: Parcel(b""), "run/1", 1.0)
    assert answer.parcel is None and "not in the expected form" in answer.error


class _Flaky(InProcessGrid):
    """Node 1 loses its first requests: silently, as a SuperNode that is killed, or with one of Flower's words for it."""

    def __init__(self, losses: int, code: int | None) -> None:
        super().__init__({1: _echo}, {1: Context(1, 1, {}, RecordDict(), {})})
        self.asked: list[bytes] = []
        self._losses, self._code = losses, code

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        (identifier,) = message_ids
        if identifier not in self._requests:
            return []
        request = self._requests[identifier]
        self.asked.append(from_record(request.content).envelope)
        if len(self.asked) > self._losses:
            return super().pull_messages([identifier])
        del self._requests[identifier]
        return [] if self._code is None else [Message(Error(self._code, "its own words"), reply_to=request)]


def _echo(message: Message, context: Context) -> Message:
    return Message(to_record(from_record(message.content)), reply_to=message)


def _ask(grid: _Flaky, connected: Callable[[int], dict[int, str]], deadline: float = 100.0) -> list[Answer]:
    """`connected` tells the node's connection by the seconds that have passed."""
    seconds = [0]

    def sleep(_: float) -> None:
        seconds[0] += 1

    exchange = Exchange(grid, clock=lambda: float(seconds[0]), sleep=sleep, connected=lambda: connected(seconds[0]))
    return list(exchange.ask("query.hello", [1], lambda node: Parcel(f"to {node}".encode()), "run/1", deadline))


@pytest.mark.parametrize("code", [ErrorCode.NODE_UNAVAILABLE, ErrorCode.CLIENT_APP_CRASHED])
def test_a_request_that_flower_lost_is_asked_again_once_the_node_is_there(code: int) -> None:
    grid = _Flaky(losses=2, code=code)
    (answer,) = _ask(grid, lambda seconds: {} if seconds < 20 else {1: "first"})
    assert answer.parcel is not None and answer.parcel.envelope == b"to 1"
    assert grid.asked == [b"to 1"] * 3 and answer.bytes_down == 3 * answer.bytes_up


def test_a_request_that_died_with_its_connection_is_asked_again() -> None:
    grid = _Flaky(losses=1, code=None)
    (answer,) = _ask(grid, lambda seconds: {1: "first" if seconds < 20 else "second"})
    assert answer.parcel is not None and len(grid.asked) == 2


def test_while_a_connection_lasts_nothing_is_asked_again() -> None:
    grid = _Flaky(losses=1, code=None)
    assert _ask(grid, lambda _: {1: "first"}) == [] and len(grid.asked) == 1


def test_a_node_that_dies_of_a_request_each_time_is_missing() -> None:
    grid = _Flaky(losses=1000, code=ErrorCode.CLIENT_APP_CRASHED)
    (answer,) = _ask(grid, lambda _: {1: "first"})
    assert answer.error == "the node failed (Flower error 8)" and len(grid.asked) == 1 + MOST_REPEATS


@pytest.mark.parametrize("deadline", [100.0, 10000.0])
def test_a_node_that_does_not_come_back_is_missing_with_the_reason(deadline: float) -> None:
    (answer,) = _ask(_Flaky(losses=1, code=ErrorCode.NODE_UNAVAILABLE), lambda _: {}, deadline)
    assert answer.error == "its connection was lost and it did not come back in time"


def test_an_answer_that_came_after_the_deadline_is_called_late() -> None:
    (answer,) = _ask(_Flaky(losses=1, code=ErrorCode.MESSAGE_UNAVAILABLE), lambda _: {1: "first"})
    assert answer.error == "it did not answer in time"


def test_without_patience_a_node_that_is_lost_is_missing_at_once() -> None:
    exchange = Exchange(_Flaky(losses=1, code=ErrorCode.NODE_UNAVAILABLE), connected=dict)
    (answer,) = exchange.ask("query.hello", [1], lambda _: Parcel(b""), "run/1", 100.0, patience=0.0)
    assert "connection was lost" in answer.error


def test_a_superlink_that_is_away_tells_of_no_connection() -> None:
    def away(seconds: int) -> dict[int, str]:
        if seconds < 20:
            raise FlowerAway("it is away")
        return {1: "first"}

    grid = _Flaky(losses=1, code=ErrorCode.NODE_UNAVAILABLE)
    (answer,) = _ask(grid, away)
    assert answer.parcel is not None and len(grid.asked) == 2


class _Leaving(_Flaky):
    """Node 1 answers no request before `back`; Flower has no word for it."""

    def __init__(self, back: int, seconds: list[int]) -> None:
        super().__init__(0, None)
        self._back, self._seconds = back, seconds

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return super().pull_messages(message_ids) if self._seconds[0] >= self._back else []


def _stages(back: int, away_from: int, deadlines: list[float]) -> tuple[list[bool], int]:
    """Whether node 1 answered each of several stages, and the second in which the last one ended."""
    seconds = [0]

    def sleep(_: float) -> None:
        seconds[0] += 1

    def connected() -> dict[int, str]:
        return {} if away_from <= seconds[0] < back else {1: "the same"}

    exchange = Exchange(_Leaving(back, seconds), clock=lambda: float(seconds[0]), sleep=sleep, connected=connected)
    asked = [list(exchange.ask("query.hello", [1], lambda _: Parcel(b""), "run/1", deadline)) for deadline in deadlines]
    return [any(answer.parcel is not None for answer in answers) for answers in asked], seconds[0]


@pytest.mark.parametrize("away_from", [10, 130])
def test_a_node_that_is_away_costs_one_deadline_and_not_each_stage_its_own(away_from: int) -> None:
    answered, end = _stages(back=10**6, away_from=away_from, deadlines=[120.0] * 4)
    assert answered == [False] * 4
    assert end <= max(120, away_from) + 3 * 4, "later stages end with the look that finds it away"


def test_a_node_that_was_late_and_is_connected_is_waited_for() -> None:
    answered, _ = _stages(back=200, away_from=10**6, deadlines=[120.0, 120.0])
    assert answered == [False, True]


def test_a_node_that_answered_again_is_waited_for_again_when_it_leaves() -> None:
    seconds = [0]

    def sleep(_: float) -> None:
        seconds[0] += 1

    grid = _Flaky(losses=1, code=ErrorCode.NODE_UNAVAILABLE)
    away = [range(10**6), range(0), range(50)]
    exchange = Exchange(grid, clock=lambda: float(seconds[0]), sleep=sleep, connected=lambda: {} if seconds[0] in away[0] else {1: "first"})
    heard = []
    for losses in (1000, 0, 1):
        grid._losses, grid.asked, seconds[0] = losses, [], 0
        heard.append([answer.parcel is not None for answer in exchange.ask("query.hello", [1], lambda _: Parcel(b""), "run/1", 100.0)])
        away.pop(0)
    assert heard == [[False], [True], [True]]


def test_a_node_that_leaves_while_its_answer_arrives_is_missing_before_the_deadline() -> None:
    answered, end = _stages(back=10**6, away_from=10, deadlines=[7200.0])
    assert answered == [False] and end < 700
