"""The secret channel of a pair (X25519, with ML-KEM-768 in suite SA-1), what is sealed in it, and the seeds that come from it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocols.epoch.messages import KeysMessage, RelayedShares
from protocols.epoch.published import Confirmation, pair_commitment
from protocols.epoch.terms import EpochManifest
from protocols.errors import DishonestMember
from protocols.keys import KEY_BYTES, Purpose, commit, derive_key
from protocols.pack import PackError, pack, unpack

_NONCE = bytes(12)  # every AES-GCM key here seals exactly one message


def agree(private: X25519PrivateKey, other: KeysMessage) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(other.x25519))
    except ValueError:  # a wrong length, or a point of small order
        raise DishonestMember(other.sender, "announced an X25519 key that is none; leave it out") from None


def encapsulate(manifest: EpochManifest, other: KeysMessage) -> tuple[bytes, bytes]:
    """Secret and ciphertext; both are empty in a suite without ML-KEM-768."""
    if not manifest.uses_mlkem:
        return b"", b""
    try:
        return MLKEM768PublicKey.from_public_bytes(other.mlkem).encapsulate()
    except ValueError:
        raise DishonestMember(other.sender, "announced an ML-KEM-768 key that is none; leave it out") from None


def decapsulate(private: MLKEM768PrivateKey | None, dealt: RelayedShares) -> bytes:
    """The secret that a dealer encapsulated; empty without a key, in a suite without ML-KEM-768."""
    if private is None:
        return b""
    try:
        return private.decapsulate(dealt.part.ciphertext)
    except ValueError:
        raise DishonestMember(dealt.header.sender, "sent an ML-KEM-768 ciphertext of a wrong length; leave it out") from None


def seal(secret: bytes, manifest: EpochManifest, sender: str, recipient: str, content: bytes) -> bytes:
    key = derive_key(secret, Purpose.SEAL, manifest.hash, sender.encode(), recipient.encode())
    return AESGCM(key).encrypt(_NONCE, content, manifest.hash)


def open_sealed(secret: bytes, manifest: EpochManifest, sender: str, recipient: str, sealed: bytes) -> bytes:
    key = derive_key(secret, Purpose.SEAL, manifest.hash, sender.encode(), recipient.encode())
    try:
        return AESGCM(key).decrypt(_NONCE, sealed, manifest.hash)
    except InvalidTag:
        raise DishonestMember(sender, "sealed shares that do not open; leave it out") from None


def derive_pair_seeds(manifest: EpochManifest, me: str, other: str, ecdh: bytes, sent: bytes, received: bytes) -> tuple[bytes, ...]:
    low, high = sorted((me, other))
    secret = ecdh + (sent + received if me == low else received + sent)
    channel = derive_key(secret, Purpose.CHANNEL, manifest.hash, low.encode(), high.encode())
    return tuple(derive_key(channel, Purpose.PAIR_SEED, manifest.hash, slot.to_bytes(4, "little")) for slot in range(manifest.slots))


def seal_recovery(manifest: EpochManifest, member: str, slot: int, recovery: bytes, seeds: Mapping[str, bytes]) -> bytes:
    """A member's pair seeds of one slot, by other member, under the slot's recovery secret."""
    key = derive_key(recovery, Purpose.RECOVERY, manifest.hash, slot.to_bytes(4, "little"))
    return AESGCM(key).encrypt(_NONCE, pack(seeds), _associated(manifest, member, slot))


def open_recovery(manifest: EpochManifest, said: Confirmation, slot: int, recovery: bytes) -> dict[str, bytes]:
    """The pair seeds of one slot of a member that dropped out, by other member, from what it said when it confirmed the epoch.

    Raises:
        DishonestMember: its envelope does not open under the secret that it committed to, or holds other seeds than it committed to.
    """
    member = said.sender
    key = derive_key(recovery, Purpose.RECOVERY, manifest.hash, slot.to_bytes(4, "little"))
    try:
        seeds = unpack(AESGCM(key).decrypt(_NONCE, said.envelopes[slot], _associated(manifest, member, slot)))
    except (InvalidTag, PackError):
        raise DishonestMember(member, "published an envelope that does not open; leave it out of the next epoch") from None
    if seeds.keys() != set(manifest.members) - {member} or any(len(seed) != KEY_BYTES for seed in seeds.values()):
        raise DishonestMember(member, "published an envelope without a pair seed for every member; leave it out of the next epoch")
    for other, seed in seeds.items():
        # The other committed to the same when the epoch was certified, so this commitment proves who is at fault.
        if not hmac.compare_digest(commit("pair seed", seed), pair_commitment(manifest, said.rows[slot], member, other)):
            fault = f"published an envelope with another pair seed for {other} than it committed to; leave it out of the next epoch"
            raise DishonestMember(member, fault)
    return seeds


def _associated(manifest: EpochManifest, member: str, slot: int) -> bytes:
    return pack({"epoch": manifest.hash, "member": member.encode(), "slot": str(slot).encode()})
