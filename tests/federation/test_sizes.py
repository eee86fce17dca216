"""A vector that is sent again in an epoch of another size counts there as it would have counted in the first one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.encoding import decode
from protocols.secagg import propose_survivors
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import Federation, make_plan
from tests.federation.scripted import Script

FIVE = ("ada", "bea", "cyd", "dov", "eve")
PLAN = {"trainable": {"lora_rank": 2, "targets": ["attention"], "experts": "none"}, "evaluation": {"every": 5}}


def total_of(directory: Path, first: tuple[str, ...], second: tuple[str, ...], lanes: int) -> NDArray[np.float64]:
    """Summed deltas of the first update in an epoch of `second`, after an attempt in one of `first` that nobody signed a set of."""
    federation = Federation(directory, make_plan(**PLAN, secure_aggregation={"lanes": lanes}), FIVE)
    script = Script(federation)
    script.follow(script.sum(script.set_up(FIVE), 0, "evaluate", 0), FIVE)
    epoch = script.set_up(first)
    abandoned = script.manifest(epoch, 1, "update", 0)
    script.collect(epoch, abandoned, first)
    again = script.set_up(second)
    manifest = script.manifest(again, 1, "update", 0)
    accumulator = script.collect(again, manifest, second)
    certificate = script.certify(again, manifest, propose_survivors(manifest, accumulator.roots))
    total, _ = script.total(again, manifest, certificate)
    sent, repeated = (script.upload(abandoned, script.send(name, epoch, abandoned)) for name in (first[0], first[0]))
    assert sent.root == repeated.root in script.uploads, "what was sent for a manifest never changes"
    federation.close()
    decoded = decode(total, script.terms.lanes(script.state, script.planned(1, "update")), len(second))
    return np.concatenate([values.reshape(-1) for name, values in sorted(decoded.items()) if name.startswith("delta")])


def encoded_once(vector: NDArray[np.uint32], *_: object) -> NDArray[np.uint32]:
    """The twin that sends the stored vector as it is."""
    return vector


@pytest.mark.parametrize("lanes", [32, 20])
@pytest.mark.parametrize(("first", "second"), [(FIVE, FIVE[:4]), (FIVE[:4], FIVE)])
def test_vector_of_another_epoch_size_counts_once(tmp_path: Path, first: tuple[str, ...], second: tuple[str, ...], lanes: int) -> None:
    """To make one institution's update count twice, or half: its vector is asked for again in an epoch of another size."""
    honest = total_of(tmp_path / "honest", second, second, lanes)
    tolerance = 0.02 * np.abs(honest).max()
    with weakened("client.sums.rescaled", by=encoded_once):
        assert np.abs(total_of(tmp_path / "twin", first, second, lanes) - honest).max() > 10 * tolerance
    assert np.abs(total_of(tmp_path / "repeated", first, second, lanes) - honest).max() < tolerance
