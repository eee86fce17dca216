"""The coordinator spools uploads part by part and adds them one by one: its memory does not grow with the number of institutions."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from flwr.app import Message

from coordinator.exchange import InProcessGrid
from protocols.wire import deserialize, serialize
from tests.federation.federation import Federation, make_plan


class OnDisk(InProcessGrid):
    """Requests wait on disk until their node takes them, as in a SuperLink."""

    folder: Path

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        pushed = super().push_messages(messages)
        for identifier in pushed:
            (self.folder / identifier).write_bytes(serialize(self._requests.pop(identifier)))
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        for identifier in (identifiers := list(message_ids)):
            self._requests[identifier] = deserialize((self.folder / identifier).read_bytes())
        return super().pull_messages(identifiers)


def peak_bytes(directory: Path, institutions: int) -> int:
    """Peak of traced memory over a whole run in which every institution uploads over 2 MB."""
    plan = make_plan(rounds=1, trainable={"lora_rank": 16384, "targets": ["lm_head"], "experts": "none"}, aggregation={"rule": "fedavg"})
    names = tuple(f"site-{number:02}" for number in range(institutions))
    federation = Federation(directory, plan, names)
    OnDisk.folder = directory
    gc.collect()  # Flower's records are cycles, and those of earlier runs may go at any time
    tracemalloc.start()
    try:
        federation.run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        federation.close()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_institutions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.secagg.inputs.PART_CHUNKS", 16)  # ten parts
    monkeypatch.setattr("protocols.secagg.audit.SPOT_CHECKS", 1)  # of 160 chunks: of a real vector, eight are no more
    monkeypatch.setattr("tests.federation.federation.InProcessGrid", OnDisk)
    few, many = peak_bytes(tmp_path / "4", 4), peak_bytes(tmp_path / "12", 12)
    upload = 4 * 16384 * (8 + 32)
    assert few > upload, "the vectors are too small to show anything"
    # Of each upload one chunk is shown; whoever held the uploads would take eight more.
    assert many - few < 2 * upload, f"8 more institutions took {(many - few) / upload:.1f} more uploads of memory"
