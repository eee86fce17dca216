"""I-9 with a record in an error's text, which is where such things leave a machine."""

from __future__ import annotations

import pytest

from client.node import Node, Result
from tests.federation.attacks.canaries import PROMPT
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.scene import VICTIM, Scene
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES


def quoted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the record stands after the victim's work failed over it; its own log is its own."""

    def fail(*_: object) -> None:
        raise ValueError(f"cannot encode {PROMPT!r}")

    monkeypatch.setattr(scene.federation.works[VICTIM], "evaluate", fail)
    epoch = scene.set_up(NAMES)
    assert "could not answer" in scene.send(VICTIM, epoch, scene.manifest(epoch, 0, "evaluate", 0)).refusal
    return [place for place, data in scene.adversary.captured() if PROMPT.encode() in data and place != "log"]


def telling(node: Node, message_type: str, error: Exception) -> Result:
    return Result({"refused": f"{node.name} could not answer {message_type}: {error}".encode()})


def test_a_failure_quotes_no_record(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    with weakened("client.answering._refused", by=telling):
        twin = stage()
        assert quoted(twin, monkeypatch) == ["evaluate.sum of ada"]
        twin.breaks("I-9: a record's text")
    assert quoted(stage(), monkeypatch) == []
