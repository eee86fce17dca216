"""A run whose records use all experts alike ends with a sentence, at once: another attempt would count the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.events import SumFinished
from coordinator.registry.states import RunState
from protocols.errors import FlatRoutingError
from tests.federation.federation import Federation, make_plan


def test_a_run_without_a_choice_of_experts_fails_with_what_to_set_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = Federation(tmp_path, make_plan())
    for work in federation.works.values():
        monkeypatch.setattr(work, "expert_affinity", lambda: {layer: np.full(4, 10.0) for layer in federation.adaptation.expert_counts})
    with pytest.raises(FlatRoutingError, match="too flat to choose experts by: 0.0%") as raised:
        federation.run()
    (run,) = federation.registry.runs()
    stages = {event.attempt for event in federation.events if getattr(event, "kind", "") == "experts" and hasattr(event, "attempt")}
    assert (run.state, run.reason) == (RunState.FAILED, str(raised.value))
    assert [event.kind for event in federation.of(SumFinished)] == ["evaluate"]
    assert stages == {1}
    federation.close()
