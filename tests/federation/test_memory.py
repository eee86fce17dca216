"""The coordinator adds contributions as they arrive: its memory does not grow with the number of institutions."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from tests.federation.federation import Federation, make_plan


def peak_bytes(directory: Path, institutions: int) -> int:
    """Peak of traced memory over a whole run in which every institution uploads over 2 MB."""
    plan = make_plan(rounds=1, trainable={"lora_rank": 16384, "targets": ["lm_head"], "experts": "none"}, aggregation={"rule": "fedavg"})
    names = tuple(f"site-{number:02}" for number in range(institutions))
    federation = Federation(directory, plan, names)
    tracemalloc.start()
    try:
        federation.run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        federation.close()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_institutions(tmp_path: Path) -> None:
    few, many = peak_bytes(tmp_path / "4", 4), peak_bytes(tmp_path / "12", 12)
    upload = 4 * 16384 * (8 + 32)
    assert few > upload, "the vectors are too small to show anything"
    assert many - few < 2 * upload, f"8 more institutions took {(many - few) / upload:.1f} more uploads of memory"
