"""What takes long is said before it begins, in a line that no sender can break."""

from __future__ import annotations

import pytest
from flwr.app import Context, Message, Metadata, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID

from client.client_app import telling

CONTEXT = Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})


@pytest.mark.parametrize(
    ("kind", "group", "said"),
    [
        ("train.sum", "triage-1/3", ["trains for round 3 of triage-1"]),
        ("evaluate.sum", "triage-1/3", ["evaluates for round 3 of triage-1"]),
        ("query.unmask", "triage-1/3", []),
        ("train.sum", "a\nb/1", [r"trains for round 1 of a\nb"]),
    ],
)
def test_training_and_evaluation_are_told_with_round_and_run(kind: str, group: str, said: list[str]) -> None:
    lines: list[str] = []
    message = Message(content=RecordDict(), metadata=Metadata(1, "m", SUPERLINK_NODE_ID, 2, "", group, 1e9, 60.0, kind))
    assert telling(lambda message, _: message, lines.append)(message, CONTEXT) is message
    assert lines == said
