"""Colluding members: answers in another's name, and values that are to reach into lanes which are not theirs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Context, Message

from coordinator.events import SumFinished
from protocols.errors import EncodingError
from protocols.identity import Envelope, seal_envelope
from protocols.lanes import LaneFormat
from protocols.merkle import leaf_hash, merkle_root
from protocols.pack import pack, unpack
from protocols.secagg import UploadRoot, run_secagg
from protocols.wire import Parcel, from_record, to_record
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.invariants import check_invariants
from tests.federation.attacks.scene import COLLUDER, OTHERS, VICTIM, Scene
from tests.federation.attacks.weakened import weakened, without_signatures
from tests.federation.federation import Crash


def metric_of_round_0(scene: Scene) -> tuple[tuple[str, ...], int]:
    """Whose inputs are in the first total, and its first lane, when the colluder answers in the victim's place."""
    honest, colluder = scene.federation.apps[VICTIM], scene.federation.nodes[COLLUDER].identity

    def another(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        if message.metadata.message_type != "evaluate.sum":
            return reply
        parcel = from_record(reply.content)
        lanes = np.frombuffer(parcel.arrays["chunks"].tobytes(), "<u4") + np.uint32(1000)
        root = UploadRoot(VICTIM, merkle_root([leaf_hash(lanes.tobytes())]), bytes(64))
        envelope = replace(Envelope.from_bytes(unpack(parcel.envelope)["envelope"]), payload=pack({"root": root.to_bytes()}))
        forged = Parcel(seal_envelope(colluder, envelope), {"chunks": lanes.view(np.uint8)})
        return Message(to_record(forged), reply_to=message)

    def stop(event: object) -> None:
        if isinstance(event, SumFinished):
            raise Crash

    scene.federation.apps[VICTIM] = another
    with pytest.raises(Crash):
        scene.federation.run(stop)
    (total,) = scene.federation.directory.glob("runs/*/sums/*/total")
    return scene.federation.of(SumFinished)[0].institutions, int.from_bytes(total.read_bytes()[:4], "little")


def plain_metric(scene: Scene, names: tuple[str, ...]) -> int:
    sums = {name: vector for (name, _), vector in scene.adversary.inputs.items()}
    return int(sum(sums[name][0] for name in names))


def test_reply_in_anothers_name(stage: Stage) -> None:
    """To add to the victim's vector without knowing it: its upload is taken on the way, changed, and passed on in its name."""
    everybody = (VICTIM, *OTHERS)
    with without_signatures():
        twin = stage(greet=False)
        assert metric_of_round_0(twin) == (everybody, plain_metric(twin, everybody) + 1000)
    scene = stage(greet=False)
    assert metric_of_round_0(scene) == (OTHERS, plain_metric(scene, OTHERS))
    check_invariants(scene.adversary)


FULL = np.uint32((1 << 20) - 1)


def test_lane_carry() -> None:
    """To reach into the lane beside its own: a member sends values that overflow theirs, where two lanes share five bytes."""
    inputs = {name: np.array([FULL, 1], np.uint32) for name in ("ada", "bea", "cyd")}
    with weakened("protocols.lanes.LaneFormat.reduce"):
        assert run_secagg(inputs, lanes=20).total[1] != 3
    assert run_secagg(inputs, lanes=20).total.tolist() == [(1 << 20) - 3, 3]
    with pytest.raises(EncodingError):  # nor can a member write a bit that no lane has
        LaneFormat(1, 0, 20).read(b"\xff" * 5, 0)
