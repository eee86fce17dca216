"""What a node makes Flower's own decoders stumble over costs that node alone."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.supercore.inflatable.inflatable_object import add_header_to_object_body

from coordinator.exchange import Exchange, InProcessGrid
from protocols.wire import Parcel


class _Inflating(InProcessGrid):
    """Puts replies together from objects whose content is the node's own, as Flower's grid does."""

    def __init__(self, kind: type[ConfigRecord] | type[MetricRecord] | type[ArrayRecord]) -> None:
        super().__init__({}, {})
        self._kind = kind

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        self._kind.inflate(add_header_to_object_body(b"junk", self._kind()))
        raise AssertionError("junk was read")


@pytest.mark.parametrize("kind", [ConfigRecord, MetricRecord, ArrayRecord])
def test_an_object_that_is_no_protobuf_or_json_costs_its_node_alone(
    kind: type[ConfigRecord] | type[MetricRecord] | type[ArrayRecord],
) -> None:
    (answer,) = Exchange(_Inflating(kind)).ask("query.hello", [(1, Parcel(b""))], "run/1", 1.0)
    assert answer.parcel is None and "not in the expected form" in answer.error
