"""What a member publishes when it confirms: envelopes of its pair seeds and commitments to them, under one hash that it signs.

The commitments of a slot are its row. Any one row is shown with the hashes of the others alone, so that an opened pair seed can be
checked against the certificate by somebody who holds nothing else of the setup.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from protocols.codec import Message
from protocols.epoch.messages import HASH_BYTES, SharesMessage
from protocols.epoch.terms import EpochManifest
from protocols.errors import ProtocolError
from protocols.keys import commit
from protocols.pack import pack


@dataclass(frozen=True)
class Confirmation(Message):
    """A member's signature on the whole setup and on what it publishes: its envelopes and rows, one of each per slot."""

    sender: str
    incarnation: int  # of the sender's ledger
    setup_hash: bytes
    rows: tuple[bytes, ...]  # commitments to the pair seeds with all others, in order of members
    envelopes: tuple[bytes, ...]  # pair seeds under the slot's recovery secret
    signature: bytes

    @cached_property
    def published(self) -> bytes:
        """Hash of the envelopes and rows, and of whose and which setup's they are."""
        return _published(self.sender, self.incarnation, self.setup_hash, _hashes(self.rows), _hash(self.envelopes))

    def shown(self, slot: int) -> ShownRow:
        """One slot's row, with what else it takes to compute `published`."""
        return ShownRow(self.incarnation, self.rows[slot], _hashes(self.rows), _hash(self.envelopes))


@dataclass(frozen=True)
class ShownRow(Message):
    """A row of one slot, and the hashes that bind it to what its member signed."""

    incarnation: int
    row: bytes
    row_hashes: tuple[bytes, ...]
    envelopes_hash: bytes


@dataclass(frozen=True)
class EpochCertificate(Message):
    """All members' signatures on one setup and on what each published. What the coordinator opens sums with stays with it."""

    epoch: int
    epoch_hash: bytes
    setup_hash: bytes
    published: Mapping[str, bytes]
    signatures: Mapping[str, bytes]
    keys: Mapping[str, bytes] = field(default_factory=dict, metadata={"local": True}, compare=False)  # hashes of keys messages
    shares: Mapping[str, SharesMessage] = field(default_factory=dict, metadata={"local": True}, compare=False)
    confirmations: Mapping[str, Confirmation] = field(default_factory=dict, metadata={"local": True}, compare=False)


def commit_row(manifest: EpochManifest, me: str, seeds: Mapping[str, bytes]) -> bytes:
    """A member's commitments to its pair seeds of one slot, given by other member."""
    return b"".join(commit("pair seed", seeds[name]) for name in manifest.members if name != me)


def pair_commitment(manifest: EpochManifest, row: bytes, member: str, other: str) -> bytes:
    """What a member's row says of its pair seed with another."""
    number, place = manifest.number(other), manifest.number(other) - 1
    start = HASH_BYTES * (place - (number > manifest.number(member)))
    return row[start : start + HASH_BYTES]


def check_pair_seed(
    manifest: EpochManifest, certificate: EpochCertificate, member: str, other: str, slot: int, shown: ShownRow, seed: bytes
) -> None:
    """Whether an opened pair seed is the one that `member` committed to when it signed the certificate.

    Raises:
        ProtocolError: the row is not one that the member signed, or the seed is another.
    """
    published = _published(member, shown.incarnation, certificate.setup_hash, shown.row_hashes, shown.envelopes_hash)
    bound = slot < len(shown.row_hashes) == manifest.slots and _hash((shown.row,)) == shown.row_hashes[slot]
    if not bound or published != certificate.published[member]:
        raise ProtocolError(
            f"the row shown of {member} is not the one that it signed for slot {slot}; ask the coordinator for the true one"
        )
    if not hmac.compare_digest(commit("pair seed", seed), pair_commitment(manifest, shown.row, member, other)):
        raise ProtocolError(f"the pair seed opened of {member} and {other} is not the one that {member} committed to; the sum is wrong")


def disputed_pairs(manifest: EpochManifest, confirmations: Mapping[str, Confirmation]) -> list[tuple[str, str]]:
    """Pairs of members that committed to different pair seeds of a slot."""
    members = manifest.members
    rows = {name: [_commitments(row) for row in confirmations[name].rows] for name in members}
    pairs = [(low, high) for low in range(manifest.n) for high in range(low + 1, manifest.n)]
    # A row leaves its own member out: those before it keep their place, those after it move down by one.
    return [
        (members[low], members[high])
        for low, high in pairs
        if any(one[high - 1] != other[low] for one, other in zip(rows[members[low]], rows[members[high]], strict=True))
    ]


def _published(sender: str, incarnation: int, setup: bytes, row_hashes: Sequence[bytes], envelopes_hash: bytes) -> bytes:
    parts = {"sender": sender.encode(), "incarnation": str(incarnation).encode(), "setup": setup}
    parts |= {"rows": _hash(row_hashes), "envelopes": envelopes_hash}
    return hashlib.sha256(b"consortium epoch published 1\0" + pack(parts)).digest()


def _hashes(contents: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(_hash((content,)) for content in contents)


def _hash(contents: Sequence[bytes]) -> bytes:
    return hashlib.sha256(pack({f"{place:09d}": content for place, content in enumerate(contents)})).digest()


def _commitments(row: bytes) -> list[bytes]:
    return [row[start : start + HASH_BYTES] for start in range(0, len(row), HASH_BYTES)]
