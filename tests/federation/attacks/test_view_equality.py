"""I-8: over a whole run, whatever two honest institutions put in, the adversary sees the same bytes if their sums are the same.

Everything but the stream between the two is drawn alike in both worlds. An imitation of the protocol that gives a bit away shows as
a byte that differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import client.answering
import client.sums
from client.node import Node, Request, Result
from client.sums import send_masked_input
from protocols.encoding import LaneLayout
from protocols.keys import Purpose, derive_key
from protocols.secagg import SumManifest
from protocols.suites import SUITES
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.other_world import GIVER, TAKER, other_world
from tests.federation.attacks.scene import Scene, small_plan
from tests.federation.attacks.weakened import weakened

DROPOUT = "cyd"
View: TypeAlias = list[tuple[str, bytes]]
Inputs: TypeAlias = Mapping[tuple[str, bytes], Lanes]  # by institution and manifest's hash
Imitation: TypeAlias = Callable[[], AbstractContextManager[None]]


def view(directory: Path, caplog: pytest.LogCaptureFixture, imitation: Imitation = nullcontext, **options: Any) -> tuple[View, Inputs]:
    """All that the adversary sees of a run, and what it does not see: the vectors of the two."""
    caplog.clear()
    # ML-KEM's randomness cannot be given.
    plan = small_plan(secure_aggregation={"suite": "SA-1-X25519", "lanes": options.get("lanes", 32)})
    scene = Scene(directory, caplog, plan=plan, suites=SUITES, seed=7, greet=False)
    scene.federation.fails = lambda name, kind: options.get("dropout", False) and (name, kind) == (DROPOUT, "train.sum")
    with imitation():
        scene.federation.run()
    seen, inputs = scene.adversary.view(), {key: lanes for key, lanes in scene.adversary.inputs.items() if key[0] in (GIVER, TAKER)}
    scene.federation.close()
    return seen, inputs


@pytest.mark.parametrize("lanes", [32, 20])
@pytest.mark.parametrize("dropout", [False, True], ids=["all", "dropout"])
def test_view_equality(directory: Path, caplog: pytest.LogCaptureFixture, dropout: bool, lanes: int) -> None:
    here, ours = view(directory / "here", caplog, dropout=dropout, lanes=lanes)
    with other_world():
        there, theirs = view(directory / "there", caplog, dropout=dropout, lanes=lanes)
    assert [place for place, _ in here] == [place for place, _ in there]
    assert not [place for (place, data), (_, other) in zip(here, there, strict=True) if data != other]
    assert len(here) > 100 and sum(len(data) for _, data in here) > 50_000
    assert ours.keys() == theirs.keys() and all((lanes != theirs[key]).any() for key, lanes in ours.items()), "the worlds are one"


@contextmanager
def loss_in_the_envelope() -> Iterator[None]:
    """Beside the masked vector, the loss goes to the coordinator in clear, as in other frameworks."""

    def telling(node: Node, request: Request) -> Result:
        result, manifest = send_masked_input(node, request), SumManifest.from_bytes(request.part("manifest"))
        vector = node.ledger.vectors.kept(manifest.run, manifest.round, manifest.sum, manifest.state_hash)
        assert vector is not None
        return replace(result, parts={**result.parts, "loss": vector[-8:-4].tobytes()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(client.answering.HANDLERS, "train.sum", telling)
        yield


def one_stream_for_all_sums() -> AbstractContextManager[None]:
    """A pair's mask depends on neither slot nor manifest, so that two sums of a pair differ as their vectors do."""

    def without_context(secret: bytes, purpose: Purpose, *context: bytes) -> bytes:
        return derive_key(secret, purpose, *(context if purpose not in (Purpose.PAIR_MASK, Purpose.PAIR_SEED) else ()))

    return weakened("protocols.secagg.inputs.derive_key", "protocols.epoch.channel.derive_key", by=without_context)


def rounded_by_what_others_sent() -> AbstractContextManager[None]:
    """One institution's rounding depends on the vector of the one before."""
    encode_here, last = vars(client.sums)["encode"], [0]

    def leaking(values: Mapping[str, Any], layout: LaneLayout, *rest: Any) -> Lanes:
        vector: Lanes = encode_here(values, layout, *rest)
        vector[0] += last[0] % 256
        last[0] = int(vector[-1])
        return vector

    return weakened("client.sums.encode", by=leaking)


@pytest.mark.parametrize("imitation", [loss_in_the_envelope, one_stream_for_all_sums, rounded_by_what_others_sent])
def test_view_equality_finds_an_imitation(directory: Path, caplog: pytest.LogCaptureFixture, imitation: Imitation) -> None:
    here, again = (view(directory / name, caplog, imitation)[0] for name in ("here", "again"))
    assert here == again, "nothing but the world differs"
    with other_world():
        assert view(directory / "there", caplog, imitation)[0] != here
