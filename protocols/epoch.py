"""Epochs: keys agreed once, secrets of every slot shared, all of it signed by all members (PROTOCOL, section 2).

Three stages, each a function from a state to the next state and the message to send; the coordinator relays messages.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocols.codec import Message
from protocols.errors import DishonestMember, ProtocolError, ThresholdError
from protocols.identity import Identity, verify
from protocols.keys import Purpose, commit, derive_key
from protocols.pack import PackError, pack, unpack
from protocols.roster import Roster
from protocols.shamir import SHARE_BYTES, split_secret

SUITE = "SA-1"  # X25519 + ML-KEM-768, HKDF-SHA256, AES-256-GCM, AES-256-CTR, Ed25519
MOST_MEMBERS = 250
SECRET_BYTES = 32
_NONCE = bytes(12)  # every AES-GCM key here seals exactly one message
Randomness = Callable[[int], bytes]


def threshold(n: int, colluding: int) -> int:
    """Fewest institutions that open a sum: two sets that large share more than the colluding ones."""
    return (n + colluding) // 2 + 1


@dataclass(frozen=True)
class EpochManifest(Message):
    """The terms of an epoch, as the coordinator proposes them and every member checks them."""

    run: str
    epoch: int
    roster_hash: bytes
    members: tuple[str, ...]
    n: int
    colluding: int
    threshold: int
    suite: str
    slots: int

    def check(self, roster: Roster) -> None:
        """What every member checks before it takes part.

        Raises:
            ThresholdError, ProtocolError, RosterError: the terms are unsafe, or a member is unknown.
        """
        if self.suite != SUITE:
            raise ProtocolError(f"the suite {self.suite} is not {SUITE}; both sides must run the same version")
        if list(self.members) != sorted(set(self.members)) or len(self.members) != self.n or self.n > MOST_MEMBERS or self.slots < 1:
            raise ProtocolError(
                f"the epoch's members must be {self.n} different names in order, at most {MOST_MEMBERS}, with a slot or more"
            )
        if self.roster_hash != roster.roster_hash:
            raise ProtocolError("the epoch is for another roster; compare rosters before going on")
        for name in self.members:
            roster.key_of(name)
        check_threshold(self.n, self.colluding, self.threshold)

    def number(self, name: str) -> int:
        """A member's place from 1 on: the point at which its shares are taken."""
        return self.members.index(name) + 1


def check_threshold(n: int, colluding: int, t: int) -> None:
    """Raises ThresholdError unless 2t > n + c, t <= n and t - c >= 2."""
    if t < threshold(n, colluding) or t > n or t - colluding < 2:
        raise ThresholdError(
            f"a threshold of {t} among {n} institutions with {colluding} colluding is unsafe: it needs 2t > n + c, t <= n and t - c >= 2"
        )


@dataclass(frozen=True)
class KeysMessage(Message):
    """A member's public channel keys, signed."""

    sender: str
    epoch_hash: bytes
    x25519: bytes
    mlkem: bytes
    signature: bytes

    def signed(self) -> bytes:
        return b"consortium epoch keys 1\0" + pack({"s": self.sender.encode(), "e": self.epoch_hash, "x": self.x25519, "m": self.mlkem})


@dataclass(frozen=True)
class SharesMessage(Message):
    """A member's sealed shares of every slot's secrets, with commitments to each secret and share, signed.

    commitments: per slot, of self seed and recovery secret; share_commitments: per slot and member, of both shares.
    """

    sender: str
    epoch_hash: bytes
    keys_hash: bytes
    ciphertexts: Mapping[str, bytes]  # ML-KEM, by recipient
    sealed: Mapping[str, bytes]
    commitments: bytes
    share_commitments: bytes
    signature: bytes

    def signed(self) -> bytes:
        parts = {"s": self.sender.encode(), "e": self.epoch_hash, "k": self.keys_hash, "c": pack(self.ciphertexts)}
        parts |= {"b": pack(self.sealed), "h": self.commitments, "H": self.share_commitments}
        return b"consortium epoch shares 1\0" + pack(parts)

    def commitment(self, slot: int, secret: int) -> bytes:
        """Of a slot's self seed (0) or recovery secret (1)."""
        start = 32 * (2 * slot + secret)
        return self.commitments[start : start + 32]

    def share_commitment(self, slot: int, member: int, n: int, secret: int) -> bytes:
        """Of the share for member number `member` (from 1)."""
        start = 32 * (2 * (slot * n + member - 1) + secret)
        return self.share_commitments[start : start + 32]


@dataclass(frozen=True)
class KeysState(Message):
    """After stage 1: the channel's private keys."""

    manifest: EpochManifest
    sender: str
    seed: bytes  # of the identity's signing stays elsewhere: this is the X25519 key
    mlkem_seed: bytes
    own: KeysMessage
    entries: Mapping[str, bytes]  # identity keys of the members, as checked against the roster


@dataclass(frozen=True)
class SharesState(Message):
    """After stage 2: everything that was dealt, and the channel keys until the others' shares are opened."""

    keys: KeysState
    keys_messages: Mapping[str, KeysMessage]
    kem_secrets: Mapping[str, bytes]  # that this member encapsulated, by recipient
    self_seeds: tuple[bytes, ...]
    recovery_secrets: tuple[bytes, ...]
    own_shares: Mapping[str, bytes]  # the own share pair of every slot
    own_hash: bytes


@dataclass(frozen=True)
class EpochState(Message):
    """After stage 3: one-time secrets of every slot. Channel keys are gone."""

    manifest: EpochManifest
    sender: str
    setup_hash: bytes
    self_seeds: tuple[bytes, ...]
    pair_seeds: Mapping[str, tuple[bytes, ...]]  # by other member, one per slot
    held: Mapping[str, bytes]  # by dealer: the share pairs of every slot, [slots, 2, SHARE_BYTES]

    def share(self, dealer: str, slot: int, secret: int) -> bytes:
        """The share held of a dealer's self seed (0) or recovery secret (1)."""
        start = SHARE_BYTES * (2 * slot + secret)
        return self.held[dealer][start : start + SHARE_BYTES]


@dataclass(frozen=True)
class Confirmation(Message):
    """A member's envelopes of pair seeds, one per slot under its recovery secret, and its signature on the whole setup."""

    sender: str
    setup_hash: bytes
    envelopes: tuple[bytes, ...]
    signature: bytes  # on the setup: what the certificate collects
    envelopes_signature: bytes


@dataclass(frozen=True)
class EpochCertificate(Message):
    """All members' signatures on one setup. What the coordinator needs to open sums stays with it and is not sent."""

    epoch: int
    epoch_hash: bytes
    setup_hash: bytes
    signatures: Mapping[str, bytes]
    shares: Mapping[str, SharesMessage] = field(default_factory=dict, metadata={"local": True}, compare=False)
    envelopes: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict, metadata={"local": True}, compare=False)


def begin_epoch(manifest: EpochManifest, identity: Identity, roster: Roster, randomness: Randomness) -> tuple[KeysState, KeysMessage]:
    """Stage 1: checks the terms and makes fresh channel keys."""
    manifest.check(roster)
    if identity.name not in manifest.members or roster.key_of(identity.name) != identity.public_key:
        raise ProtocolError(f"{identity.name} is not a member of this epoch under its own key")
    seed, mlkem_seed = randomness(32), randomness(64)
    x25519 = X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    mlkem = MLKEM768PrivateKey.from_seed_bytes(mlkem_seed).public_key().public_bytes_raw()
    unsigned = KeysMessage(identity.name, manifest.hash, x25519, mlkem, b"")
    message = KeysMessage(unsigned.sender, unsigned.epoch_hash, x25519, mlkem, identity.sign(unsigned.signed()))
    entries = {name: roster.key_of(name) for name in manifest.members}
    return KeysState(manifest, identity.name, seed, mlkem_seed, message, entries), message


def deal_shares(
    state: KeysState, keys: Mapping[str, KeysMessage], randomness: Randomness, identity: Identity
) -> tuple[SharesState, SharesMessage]:
    """Stage 2: draws every slot's secrets and seals each member's shares of them."""
    manifest, me = state.manifest, state.sender
    check_keys(manifest, keys, state.entries)
    if keys[me] != state.own:
        raise ProtocolError(f"the keys relayed as those of {me} are not its own; the coordinator altered them")
    seeds = [(randomness(SECRET_BYTES), randomness(SECRET_BYTES)) for _ in range(manifest.slots)]
    shares = [[split_secret(s, manifest.threshold, manifest.n, randomness) for s in pair] for pair in seeds]
    dealt = {m: b"".join(s[manifest.number(m) - 1] for pair in shares for s in pair) for m in manifest.members}
    others = [name for name in manifest.members if name != me]
    encapsulated = {name: _encapsulate(keys[name]) for name in others}
    ecdh = {name: _agree(state.seed, keys[name]) for name in others}
    secrets = {name: encapsulated[name][0] for name in others}
    message = SharesMessage(
        sender=me,
        epoch_hash=manifest.hash,
        keys_hash=_keys_hash(keys),
        ciphertexts={name: encapsulated[name][1] for name in others},
        sealed={name: _seal(ecdh[name] + secrets[name], manifest, me, name, dealt[name]) for name in others},
        commitments=b"".join(commit(kind, s) for pair in seeds for kind, s in zip(_SECRETS, pair, strict=True)),
        share_commitments=_share_commitments(shares, manifest.n),
        signature=b"",
    )
    message = SharesMessage(**{**message.__dict__, "signature": identity.sign(message.signed())})
    own = {me: dealt[me]}
    selves, recoveries = tuple(b for b, _ in seeds), tuple(r for _, r in seeds)
    return SharesState(state, dict(keys), secrets, selves, recoveries, own, message.hash), message


def confirm_epoch(state: SharesState, shares: Mapping[str, SharesMessage], identity: Identity) -> tuple[EpochState, bytes]:
    """Stage 3: opens and checks all shares, derives all pair seeds, forgets the channel keys, and signs the setup."""
    manifest, me = state.keys.manifest, state.keys.sender
    check_shares(manifest, state.keys_messages, shares, state.keys.entries)
    if shares[me].hash != state.own_hash:
        raise ProtocolError(f"the shares relayed as those of {me} are not its own; the coordinator altered them")
    held, pair_seeds = dict(state.own_shares), {}
    private = MLKEM768PrivateKey.from_seed_bytes(state.keys.mlkem_seed)
    for dealer in manifest.members:
        if dealer == me:
            continue
        ecdh = _agree(state.keys.seed, state.keys_messages[dealer])
        received = _decapsulate(private, shares[dealer], me)
        held[dealer] = _open(ecdh + received, manifest, dealer, me, shares[dealer].sealed[me])
        _check_dealt(manifest, shares[dealer], me, held[dealer])
        pair_seeds[dealer] = _pair_seeds(manifest, me, dealer, ecdh, state.kem_secrets[dealer], received)
    setup = setup_hash(manifest, state.keys_messages, shares)
    epoch = EpochState(manifest, me, setup, state.self_seeds, pair_seeds, held)
    envelopes = tuple(
        AESGCM(derive_key(r, Purpose.RECOVERY, manifest.hash, slot.to_bytes(4, "little"))).encrypt(
            _NONCE, pack({name: seeds[slot] for name, seeds in pair_seeds.items()}), _associated(manifest, me, slot)
        )
        for slot, r in enumerate(state.recovery_secrets)
    )
    signature = identity.sign(_certified(manifest, setup))
    return epoch, Confirmation(me, setup, envelopes, signature, identity.sign(_enveloped(manifest, setup, envelopes))).to_bytes()


def certify_epoch(
    manifest: EpochManifest,
    roster: Roster,
    keys: Mapping[str, KeysMessage],
    shares: Mapping[str, SharesMessage],
    confirmations: Mapping[str, bytes],
) -> EpochCertificate:
    """The coordinator's certificate, once every member confirmed one and the same setup.

    Raises:
        ProtocolError: a confirmation is missing or of another setup; the text names its sender.
    """
    setup = setup_hash(manifest, keys, shares)
    read = {name: Confirmation.from_bytes(data) for name, data in confirmations.items()}
    for name in manifest.members:
        if name not in read or read[name].setup_hash != setup or len(read[name].envelopes) != manifest.slots:
            raise ProtocolError(f"{name} did not confirm this setup; begin again with new keys")
        verify(roster.key_of(name), _enveloped(manifest, setup, read[name].envelopes), read[name].envelopes_signature, name)
    signatures = {name: read[name].signature for name in manifest.members}
    envelopes = {name: read[name].envelopes for name in manifest.members}
    certificate = EpochCertificate(manifest.epoch, manifest.hash, setup, signatures, dict(shares), envelopes)
    verify_epoch(certificate, manifest, roster)
    return certificate


def verify_epoch(certificate: EpochCertificate, manifest: EpochManifest, roster: Roster) -> None:
    """Raises ProtocolError unless all members signed the certificate's setup of exactly this epoch."""
    if certificate.epoch_hash != manifest.hash or set(certificate.signatures) != set(manifest.members):
        raise ProtocolError("the certificate is not signed by exactly the members of this epoch")
    for name, signature in certificate.signatures.items():
        verify(roster.key_of(name), _certified(manifest, certificate.setup_hash), signature, name)


def open_recovery(manifest: EpochManifest, member: str, slot: int, recovery: bytes, envelope: bytes) -> dict[str, bytes]:
    """The pair seeds of one slot of a member that dropped out, by other member.

    Raises:
        DishonestMember: the member's envelope does not open under the secret that it committed to.
    """
    key = derive_key(recovery, Purpose.RECOVERY, manifest.hash, slot.to_bytes(4, "little"))
    try:
        seeds = unpack(AESGCM(key).decrypt(_NONCE, envelope, _associated(manifest, member, slot)))
    except (InvalidTag, PackError):
        raise DishonestMember(f"{member} published an envelope that does not open; leave it out of the next epoch") from None
    if seeds.keys() != set(manifest.members) - {member} or any(len(seed) != SECRET_BYTES for seed in seeds.values()):
        raise DishonestMember(f"{member} published an envelope without a pair seed for every member; leave it out of the next epoch")
    return seeds


def setup_hash(manifest: EpochManifest, keys: Mapping[str, KeysMessage], shares: Mapping[str, SharesMessage]) -> bytes:
    """What every member signs: the terms and all setup messages."""
    parts = {f"k/{name}": message.hash for name, message in keys.items()} | {f"s/{name}": message.hash for name, message in shares.items()}
    return hashlib.sha256(b"consortium epoch setup 1\0" + manifest.hash + pack(parts)).digest()


def check_keys(manifest: EpochManifest, keys: Mapping[str, KeysMessage], entries: Mapping[str, bytes]) -> None:
    """Raises unless there is exactly one correctly signed message of every member for this epoch."""
    if set(keys) != set(manifest.members):
        raise ProtocolError("the keys are not those of exactly the members of this epoch")
    for name, message in keys.items():
        if message.sender != name or message.epoch_hash != manifest.hash:
            raise ProtocolError(f"the keys relayed as those of {name} are for another sender or epoch")
        verify(entries[name], message.signed(), message.signature, name)


def check_shares(
    manifest: EpochManifest, keys: Mapping[str, KeysMessage], shares: Mapping[str, SharesMessage], entries: Mapping[str, bytes]
) -> None:
    """Raises unless there is exactly one correctly signed message of every member, dealt on the same keys."""
    if set(shares) != set(manifest.members):
        raise ProtocolError("the shares are not those of exactly the members of this epoch")
    expected = _keys_hash(keys)
    for name, message in shares.items():
        others = set(manifest.members) - {name}
        if (
            message.sender != name
            or message.epoch_hash != manifest.hash
            or set(message.sealed) != others
            or set(message.ciphertexts) != others
        ):
            raise ProtocolError(f"the shares relayed as those of {name} are for another sender, epoch or cohort")
        if message.keys_hash != expected:
            raise ProtocolError(f"{name} was shown other keys than this member; the coordinator split the setup")
        if len(message.commitments) != 64 * manifest.slots or len(message.share_commitments) != 64 * manifest.slots * manifest.n:
            raise DishonestMember(f"{name} did not commit to every secret and share; leave it out")
        verify(entries[name], message.signed(), message.signature, name)


_SECRETS = ("self seed", "recovery secret")


def check_share(message: SharesMessage, manifest: EpochManifest, slot: int, holder: str, secret: int, share: bytes) -> bool:
    """Whether a share is the one that its dealer committed to."""
    expected = message.share_commitment(slot, manifest.number(holder), manifest.n, secret)
    return hmac.compare_digest(commit("share", share), expected)


def check_secret(message: SharesMessage, slot: int, secret: int, value: bytes) -> bool:
    """Whether an opened secret is the one that its dealer committed to."""
    return hmac.compare_digest(commit(_SECRETS[secret], value), message.commitment(slot, secret))


def _check_dealt(manifest: EpochManifest, message: SharesMessage, me: str, held: bytes) -> None:
    if len(held) != 2 * SHARE_BYTES * manifest.slots:
        raise DishonestMember(f"{message.sender} dealt shares of a wrong length; leave it out")
    for slot in range(manifest.slots):
        for secret in (0, 1):
            start = SHARE_BYTES * (2 * slot + secret)
            if not check_share(message, manifest, slot, me, secret, held[start : start + SHARE_BYTES]):
                raise DishonestMember(f"{message.sender} dealt a share that it did not commit to; leave it out")


def _share_commitments(shares: list[list[list[bytes]]], n: int) -> bytes:
    return b"".join(commit("share", dealt[member]) for pair in shares for member in range(n) for dealt in pair)


def _agree(seed: bytes, other: KeysMessage) -> bytes:
    try:
        return X25519PrivateKey.from_private_bytes(seed).exchange(X25519PublicKey.from_public_bytes(other.x25519))
    except ValueError:  # a wrong length, or a point of small order
        raise DishonestMember(f"{other.sender} announced an X25519 key that is none; leave it out") from None


def _encapsulate(other: KeysMessage) -> tuple[bytes, bytes]:
    try:
        return MLKEM768PublicKey.from_public_bytes(other.mlkem).encapsulate()
    except ValueError:
        raise DishonestMember(f"{other.sender} announced an ML-KEM-768 key that is none; leave it out") from None


def _decapsulate(private: MLKEM768PrivateKey, message: SharesMessage, me: str) -> bytes:
    try:
        return private.decapsulate(message.ciphertexts[me])
    except ValueError:
        raise DishonestMember(f"{message.sender} sent an ML-KEM-768 ciphertext of a wrong length; leave it out") from None


def _keys_hash(keys: Mapping[str, KeysMessage]) -> bytes:
    return hashlib.sha256(b"consortium epoch keys all 1\0" + pack({name: message.hash for name, message in keys.items()})).digest()


def _seal(secret: bytes, manifest: EpochManifest, sender: str, recipient: str, content: bytes) -> bytes:
    key = derive_key(secret, Purpose.SEAL, manifest.hash, sender.encode(), recipient.encode())
    return AESGCM(key).encrypt(_NONCE, content, manifest.hash)


def _open(secret: bytes, manifest: EpochManifest, sender: str, recipient: str, sealed: bytes) -> bytes:
    key = derive_key(secret, Purpose.SEAL, manifest.hash, sender.encode(), recipient.encode())
    try:
        return AESGCM(key).decrypt(_NONCE, sealed, manifest.hash)
    except InvalidTag:
        raise DishonestMember(f"{sender} sealed shares that do not open; leave it out") from None


def _pair_seeds(manifest: EpochManifest, me: str, other: str, ecdh: bytes, sent: bytes, received: bytes) -> tuple[bytes, ...]:
    low, high = sorted((me, other))
    secret = ecdh + (sent + received if me == low else received + sent)
    channel = derive_key(secret, Purpose.CHANNEL, manifest.hash, low.encode(), high.encode())
    return tuple(derive_key(channel, Purpose.PAIR_SEED, manifest.hash, slot.to_bytes(4, "little")) for slot in range(manifest.slots))


def _associated(manifest: EpochManifest, member: str, slot: int) -> bytes:
    return pack({"epoch": manifest.hash, "member": member.encode(), "slot": str(slot).encode()})


def _certified(manifest: EpochManifest, setup: bytes) -> bytes:
    return b"consortium epoch certificate 1\0" + manifest.hash + setup


def _enveloped(manifest: EpochManifest, setup: bytes, envelopes: tuple[bytes, ...]) -> bytes:
    return b"consortium epoch envelopes 1\0" + manifest.hash + setup + hashlib.sha256(b"".join(envelopes)).digest()
