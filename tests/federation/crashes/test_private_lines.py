"""A node that dies in a private round has charged it once, before it trained, and spent it before a masked byte could leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.federation.crashes.points import Points, watch
from tests.federation.crashes.test_node_lines import die, start
from tests.federation.crashes.watched import Watched
from tests.federation.private_plans import DISTRIBUTED, private_plan
from tests.federation.scripted import Script


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Four institutions of a private run; ada dies alone where a test says."""
    directory = tmp_path / "federation"
    directory.mkdir()
    points = Points(directory, parties=("ada",), alone=True)
    watch(points, monkeypatch)
    federation = Watched(directory, private_plan(DISTRIBUTED, rounds=1), points=points)
    yield Script(federation)
    federation.close()


@pytest.mark.parametrize(
    ("where", "on_disk"),
    [
        ("COMMIT, number 1", []),  # the slot
        ("COMMIT, number 2", []),  # the charge
        (r"update\.u32 before", [(1, "reserved")]),
        ("COMMIT, number 3", [(1, "reserved")]),  # the vector
        ("COMMIT, number 4", [(1, "reserved")]),  # its root: from here on masked bytes may leave
        ("COMMIT, number 5", [(1, "spent")]),  # the answer
    ],
)
def test_a_round_is_charged_once_wherever_the_node_dies(script: Script, where: str, on_disk: list[tuple[int, str]]) -> None:
    epoch = start(script)
    manifest = script.manifest(epoch, 1, "update", 1)
    die(script, where, lambda: script.send("ada", epoch, manifest))
    assert charges(script) == on_disk
    assert not script.send("ada", epoch, manifest).refusal
    assert charges(script) == [(1, "spent")]


def charges(script: Script) -> list[tuple[int, str]]:
    return [(one.round, one.state) for one in script.federation.nodes["ada"].ledger.privacy.charges()]
