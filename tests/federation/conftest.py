"""What several files of attacks start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.federation.federation import Federation, make_plan
from tests.federation.scripted import Script


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Four institutions, a plan without experts, and a coordinator that does what the test says."""
    trainable = {"lora_rank": 2, "targets": ["attention", "lm_head"], "experts": "none"}
    federation = Federation(tmp_path, make_plan(trainable=trainable))
    yield Script(federation)
    federation.close()
