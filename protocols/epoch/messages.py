"""What a member keeps and sends in each stage of an epoch's setup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from protocols.codec import BulkyMessage, Message, SignedMessage
from protocols.epoch.terms import EpochManifest
from protocols.shamir import SHARE_BYTES

HASH_BYTES = 32


@dataclass(frozen=True)
class KeysMessage(SignedMessage):
    """A member's public channel keys, signed."""

    sender: str
    incarnation: int  # of the sender's ledger
    epoch_hash: bytes
    x25519: bytes
    mlkem: bytes  # empty in a suite without it
    signature: bytes


@dataclass(frozen=True)
class SharesHeader(SignedMessage):
    """What binds everything that a member deals: commitments to its secrets, and a hash of what each member gets, signed.

    commitments: per slot, of self seed and recovery secret; part_hashes: of each member's part, in order of members.
    """

    sender: str
    incarnation: int
    epoch_hash: bytes
    keys_hash: bytes
    commitments: bytes
    part_hashes: bytes
    signature: bytes

    def commitment(self, slot: int, secret: int) -> bytes:
        """Of a slot's self seed (0) or recovery secret (1)."""
        return _piece(self.commitments, 2 * slot + secret)

    def part_hash(self, number: int) -> bytes:
        """Of the part for member number `number` (from 1)."""
        return _piece(self.part_hashes, number - 1)


@dataclass(frozen=True)
class SharesPart(BulkyMessage):
    """What a member deals to one member: sealed shares of every slot's secrets, with a commitment to each of these shares.

    What it deals to itself it keeps, so that there ciphertext and sealed are empty.
    """

    ciphertext: bytes  # ML-KEM-768
    sealed: bytes
    commitments: bytes  # per slot, of the shares of self seed and recovery secret

    def commitment(self, slot: int, secret: int) -> bytes:
        """Of the share of a slot's self seed (0) or recovery secret (1)."""
        return _piece(self.commitments, 2 * slot + secret)


@dataclass(frozen=True)
class SharesMessage(BulkyMessage):
    """All that a member deals, as the coordinator gets it; parts in order of members."""

    header: SharesHeader
    parts: tuple[SharesPart, ...]

    def relayed(self, number: int) -> RelayedShares:
        """What of it concerns member number `number` (from 1)."""
        return RelayedShares(self.header, self.parts[number - 1])


@dataclass(frozen=True)
class RelayedShares(BulkyMessage):
    """What one member is shown of what another deals."""

    header: SharesHeader
    part: SharesPart


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
    """After stage 2: everything that was dealt, and what the others' shares are opened with. The X25519 key is gone."""

    keys: KeysState
    keys_messages: Mapping[str, KeysMessage]
    agreed: Mapping[str, bytes]  # X25519, by other member
    kem_secrets: Mapping[str, bytes]  # that this member encapsulated, by recipient
    self_seeds: tuple[bytes, ...]
    recovery_secrets: tuple[bytes, ...]
    own_shares: bytes  # the own share pair of every slot
    own_hash: bytes  # of the own header


@dataclass(frozen=True)
class EpochState(Message):
    """After stage 3: one-time secrets of every slot. Channel keys are gone."""

    manifest: EpochManifest
    sender: str
    setup_hash: bytes
    self_seeds: tuple[bytes, ...]
    pair_seeds: Mapping[str, tuple[bytes, ...]]  # by other member, one per slot
    held: Mapping[str, bytes]  # by dealer: the share pairs of every slot, [slots, 2, SHARE_BYTES]
    committed: Mapping[str, bytes]  # by dealer: commitments to both secrets of every slot, [slots, 2, HASH_BYTES]

    def commitment(self, dealer: str, slot: int, secret: int) -> bytes:
        """What a dealer committed to as its self seed (0) or recovery secret (1)."""
        return _piece(self.committed[dealer], 2 * slot + secret)

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


def _piece(hashes: bytes, place: int) -> bytes:
    return hashes[HASH_BYTES * place : HASH_BYTES * (place + 1)]
