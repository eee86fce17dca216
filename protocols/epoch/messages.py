"""What a member keeps and sends in each stage of an epoch's setup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from protocols.codec import Message
from protocols.epoch.terms import EpochManifest
from protocols.pack import pack
from protocols.shamir import SHARE_BYTES


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

    def erased(self, slots: int) -> EpochState:
        """The same without any secret of its first `slots` slots, which nothing can be masked with or opened from again."""
        count = min(slots, self.manifest.slots)
        none = (b"",) * count
        return replace(
            self,
            self_seeds=none + self.self_seeds[count:],
            pair_seeds={name: none + seeds[count:] for name, seeds in self.pair_seeds.items()},
            held={name: bytes(2 * SHARE_BYTES * count) + shares[2 * SHARE_BYTES * count :] for name, shares in self.held.items()},
        )


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
