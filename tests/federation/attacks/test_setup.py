"""The setup of an epoch: whose keys a member agrees on, what else these keys open, and whether all members saw one setup."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coordinator.link import Subject
from protocols.epoch import EpochManifest, KeysMessage, KeysState, SharesMessage, SharesState, deal_shares
from protocols.epoch.channel import agree, derive_pair_seeds, open_sealed
from protocols.errors import DishonestMember, ProtocolError
from protocols.identity import Identity
from protocols.keys import Purpose, derive_key
from protocols.pack import pack
from protocols.secagg import UnmaskAnswer, check_answer
from protocols.shamir import SHARE_BYTES, combine_shares
from protocols.suites import SUITES
from tests.federation.attacks.adversary import Lanes
from tests.federation.attacks.conftest import Stage
from tests.federation.attacks.recovery import sent, unmasked
from tests.federation.attacks.scene import CLASSICAL, COLLUDER, OTHERS, VICTIM, Scene, proposed, stolen
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES


def shares_for_swapped_keys(scene: Scene) -> bytes:
    """The victim's first self seed, from what it deals on keys that are the coordinator's own."""
    manifest, own = scene.terms_of(NAMES), X25519PrivateKey.from_private_bytes(b"\7" * 32)
    keys = {VICTIM: KeysMessage.from_bytes(scene.announce(VICTIM, manifest).parts["message"])}
    public, stranger = own.public_key().public_bytes_raw(), Identity("stranger", b"\7" * 32)
    keys |= {name: KeysMessage(name, 1, manifest.hash, public, b"", b"").signed_by(stranger.sign) for name in OTHERS}
    messages = {"messages": pack({name: message.to_bytes() for name, message in keys.items()})}
    given = scene.must(VICTIM, Subject(0, "epoch", manifest.epoch, manifest.hash), "query.epoch_shares", messages)
    parts, secret = SharesMessage.from_bytes(given.parts["message"]).parts, agree(own, keys[VICTIM])
    numbers = {name: manifest.number(name) for name in OTHERS}
    dealt = {name: parts[number - 1] for name, number in numbers.items()}
    read = {numbers[n]: open_sealed(secret + part.ciphertext, manifest, VICTIM, n, part.sealed) for n, part in dealt.items()}
    return combine_shares({number: shares[:SHARE_BYTES] for number, shares in read.items()})


def test_swapped_channel_key(stage: Stage) -> None:
    """To read every secret that the victim deals: it is given channel keys of the coordinator in the names of the others."""
    with weakened("protocols.epoch.checks.verify"):
        twin = stage(plan=CLASSICAL, suites=SUITES)
        seed = shares_for_swapped_keys(twin)
        dealt = twin.adversary.secrets[VICTIM, "r1", 1, "shares"]
        assert isinstance(dealt, SharesState) and seed == dealt.self_seeds[0]
    scene = stage(plan=CLASSICAL, suites=SUITES)
    with scene.refused(VICTIM, "a signature is not that of bea"):
        shares_for_swapped_keys(scene)
    scene.finish_sum()


def as_seal_key(manifest: EpochManifest, me: str, other: str, ecdh: bytes, sent: bytes, received: bytes) -> tuple[bytes, ...]:
    """Pair seeds that are the key under which the lower name seals its shares for the higher one."""
    low, high = sorted((me, other))
    secret = ecdh + (sent if me == low else received)
    return (derive_key(secret, Purpose.SEAL, manifest.hash, low.encode(), high.encode()),) * manifest.slots


def shares_opened_with_pair_seeds(scene: Scene) -> Lanes:
    """The victim drops out and uploads late; what was opened of it is tried on the shares that it dealt."""
    epoch = scene.set_up(NAMES)
    manifest = scene.manifest(epoch, 0, "evaluate", 0)
    certificate = scene.certify(epoch, manifest, proposed(scene, epoch, manifest, OTHERS))
    pairs = scene.total(epoch, manifest, certificate)[1].pair_seeds[VICTIM]
    scene.collect(epoch, manifest, [VICTIM])
    dealt, numbers = epoch.certificate.shares[VICTIM].parts, {name: epoch.manifest.number(name) for name in OTHERS}
    sealed = {
        numbers[name]: AESGCM(pairs[name]).decrypt(bytes(12), dealt[numbers[name] - 1].sealed, epoch.manifest.hash) for name in OTHERS
    }
    self_seed = combine_shares({number: shares[:SHARE_BYTES] for number, shares in sealed.items()})
    return unmasked(sent(scene.adversary, VICTIM, manifest), VICTIM, manifest, self_seed, pairs)


def test_seal_key_equals_mask_key(stage: Stage) -> None:
    """To have both secrets of a dropout: the pair seeds that its recovery opens also open the shares of its self seed."""
    with weakened("protocols.epoch.members.derive_pair_seeds", by=as_seal_key):
        twin = stage()
        assert stolen(twin, shares_opened_with_pair_seeds(twin))
    scene = stage()
    with pytest.raises(InvalidTag):
        shares_opened_with_pair_seeds(scene)
    scene.finish_sum(OTHERS)


def answer_after_a_split(scene: Scene) -> None:
    """The colluder deals twice, once for the victim alone, and drops out; then the victim's share of its secret is looked at."""

    def shown(name: str, keys: Mapping[str, KeysMessage], shares: Mapping[str, SharesMessage]) -> Mapping[str, SharesMessage]:
        begun, node = scene.adversary.secrets[COLLUDER, "r1", 1, "keys"], scene.federation.nodes[COLLUDER]
        assert isinstance(begun, KeysState)
        other = deal_shares(begun, keys, node.randomness, node.identity)[1]
        return {**shares, COLLUDER: other} if name == VICTIM else shares

    scene.shown = shown  # type: ignore[method-assign]
    epoch = scene.set_up(NAMES)
    manifest = scene.manifest(epoch, 0, "evaluate", 0)
    certificate = scene.certify(epoch, manifest, proposed(scene, epoch, manifest, NAMES[:3]))
    answer = UnmaskAnswer.from_bytes(scene.open(VICTIM, epoch, manifest, certificate).parts["answer"])
    check_answer(epoch.manifest, epoch.certificate, 0, certificate.proposal, VICTIM, answer)


def test_setup_view_split(stage: Stage) -> None:
    """To have an honest institution blamed for a wrong share: it was dealt another one than the others know of."""
    hashes = ("members", "certificate", "checks")
    terms_alone = [f"protocols.epoch.{module}.setup_hash" for module in hashes] + ["tests.federation.scripted.setup_hash"]
    unsalted = weakened("protocols.epoch.members.encapsulate", by=lambda *_: (bytes(32), bytes(32)))
    with weakened(*terms_alone, by=lambda manifest, *_: manifest.hash), unsalted, pytest.raises(DishonestMember) as blamed:
        answer_after_a_split(stage(plan=CLASSICAL, suites=SUITES))
    assert blamed.value.member == VICTIM
    scene = stage(plan=CLASSICAL, suites=SUITES)
    with pytest.raises(ProtocolError, match="ada did not confirm this setup; begin again with new keys"):
        answer_after_a_split(scene)
    del scene.shown
    scene.finish_sum()


def harvested(scene: Scene, suite: str) -> Lanes:
    """The victim's vector for whoever breaks its X25519 key in later years."""
    epoch = scene.set_up(NAMES, suite=suite)
    outcome = scene.sum(epoch, 0, "evaluate", 0)
    state = scene.adversary.secrets[VICTIM, "r1", epoch.manifest.epoch, "keys"]
    assert isinstance(state, KeysState)
    broken, answers = X25519PrivateKey.from_private_bytes(state.seed), scene.adversary.answered("query.epoch_keys")
    keys = {one.institution: KeysMessage.from_bytes(one.said["message"]) for one in answers}
    dealt, number = epoch.certificate.shares, epoch.manifest.number
    salts = {n: (dealt[VICTIM].parts[number(n) - 1].ciphertext, dealt[n].parts[number(VICTIM) - 1].ciphertext) for n in OTHERS}
    pairs = {n: derive_pair_seeds(epoch.manifest, VICTIM, n, agree(broken, keys[n]), *salts[n])[0] for n in OTHERS}
    manifest = outcome.transcript.manifest
    return unmasked(sent(scene.adversary, VICTIM, manifest), VICTIM, manifest, outcome.opened.self_seeds[VICTIM], pairs)


def test_suite_downgrade(stage: Stage) -> None:
    """To keep today's messages for a computer that breaks X25519: the epoch is announced without ML-KEM-768."""
    with weakened("client.epochs.check_cohort", "client.sums.check_cohort"):
        twin = stage()
        assert stolen(twin, harvested(twin, "SA-1-X25519"))
    scene = stage()
    with scene.refused(VICTIM, "the epoch's suite is SA-1-X25519; the plan's is SA-1"):
        harvested(scene, "SA-1-X25519")
    assert not stolen(scene, harvested(scene, "SA-1"))
