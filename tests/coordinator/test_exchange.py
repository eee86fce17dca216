"""What a node makes Flower's own decoders stumble over costs that node alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.supercore.inflatable.inflatable_object import add_header_to_object_body

from coordinator.exchange import Exchange, InProcessGrid
from protocols.wire import Parcel, to_record


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
    return {answer.node for answer in exchange.ask("query.hello", [(node, Parcel(b"")) for node in range(count)], "run/1", deadline)}


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
    (answer,) = Exchange(_Inflating(kind)).ask("query.hello", [(1, Parcel(b""))], "run/1", 1.0)
    assert answer.parcel is None and "not in the expected form" in answer.error
