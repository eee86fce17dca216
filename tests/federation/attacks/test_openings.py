"""What is opened, and on whose word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import client.answering
from client.node import Node, Request, Result
from protocols.epoch import EpochState, open_recovery
from protocols.identity import verify
from protocols.pack import pack
from protocols.roster import FormerKey, Roster
from protocols.secagg import SumManifest, SurvivorProposal, UnmaskAnswer
from protocols.secagg.opening import RECOVERY_SECRET, SELF_SEED
from protocols.secagg.survivors import signed_set
from protocols.shamir import combine_shares
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.recovery import sent, unmasked
from tests.federation.attacks.scene import OTHERS, VICTIM, Scene, proposed, stolen, without
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES
from tests.federation.scripted import taken

EVERYBODY = pack(dict.fromkeys(NAMES, b""))


def both_secrets(scene: Scene) -> Lanes:
    """The victim's vector, from an opening whose requests list both secrets of everybody."""
    epoch = scene.set_up(NAMES)
    manifest = scene.manifest(epoch, 0, "evaluate", 0)
    certificate = scene.certify(epoch, manifest, proposed(scene, epoch, manifest))
    lists = {"certificate": certificate.to_bytes(), "self_seeds": EVERYBODY, "recovery_secrets": EVERYBODY}
    given = {name: taken(name, scene.stage(name, epoch, manifest, "query.unmask", **lists)) for name in NAMES}
    answers = {epoch.manifest.number(n): UnmaskAnswer.from_bytes(one.parts["answer"]) for n, one in given.items()}
    self_seed = combine_shares({number: answer.self_seeds[VICTIM] for number, answer in answers.items()})
    recovery = combine_shares({number: answer.recovery_secrets[VICTIM] for number, answer in answers.items()})
    pairs = open_recovery(epoch.manifest, epoch.certificate.confirmations[VICTIM], 0, recovery)
    return unmasked(sent(scene.adversary, VICTIM, manifest), VICTIM, manifest, self_seed, pairs)


def obeying(node: Node, request: Request) -> Result:
    """Opens what the request lists."""
    stored, slot = node.ledger.epoch(request.run, 1), SumManifest.from_bytes(request.part("manifest")).slot
    assert stored is not None
    state = EpochState.from_bytes(stored.state)
    shares = ({name: state.share(name, slot, secret) for name in NAMES} for secret in (SELF_SEED, RECOVERY_SECRET))
    return Result({"answer": UnmaskAnswer(node.name, *shares).to_bytes()})


def test_request_lists_both_shares(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """To have both secrets of the victim: the request says whose shares are wanted."""
    monkeypatch.setitem(client.answering.HANDLERS, "query.unmask", obeying)
    twin = stage()
    assert stolen(twin, both_secrets(twin))
    twin.breaks("I-1")
    monkeypatch.undo()
    scene = stage()
    with pytest.raises(KeyError, match=VICTIM):  # no answer holds a share of the victim's recovery secret
        both_secrets(scene)
    assert all(one.opened.recovery_secrets == {} for one in scene.adversary.answered("query.unmask"))
    scene.finish_sum()


def outsiders_agree(scene: Scene) -> bool:
    """Whether a set was opened that one colluding member and two strangers to the epoch signed, and no honest institution."""
    epoch = scene.set_up(NAMES)
    manifest = scene.manifest(epoch, 0, "evaluate", 0)
    certificate = scene.forge_certificate(manifest, without(proposed(scene, epoch, manifest), VICTIM), ("dov", "eve", "fay"))
    plain = np.sum([scene.adversary.inputs[name, manifest.hash] for name in OTHERS], 0, dtype=np.uint32)
    return np.array_equal(scene.total(epoch, manifest, certificate)[0], plain)


def any_signature(manifest: SumManifest, roster: Roster, proposal: SurvivorProposal, name: str, signature: bytes) -> None:
    verify(roster.key_of(name), signed_set(manifest, proposal), signature, name)


def whole_roster(_: Sequence[str], __: bytes, roster: Roster, ___: Sequence[FormerKey]) -> Roster:
    return roster


def test_non_member_signature_counted(stage: Stage) -> None:
    """To choose the set alone: institutions that are not in it, and not in the epoch, make up the threshold."""
    cast = {"names": (*NAMES, "eve", "fay"), "colluders": ("dov", "eve", "fay")}
    counted = weakened("protocols.secagg.survivors.check_signature", by=any_signature)
    with counted, weakened("protocols.parties.roster_of", by=whole_roster):  # else nobody but members has a key
        assert outsiders_agree(stage(**cast))
    scene = stage(**cast)
    with scene.refused("bea", "a signature that is not of a member of its set"):
        outsiders_agree(scene)
    scene.finish_sum(NAMES)
