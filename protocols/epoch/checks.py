"""What binds a setup together: its hashes, and whether messages, shares and secrets are those that were committed to."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from protocols.epoch.messages import HASH_BYTES, EpochState, KeysMessage, RelayedShares, SharesHeader, SharesMessage, SharesPart
from protocols.epoch.terms import EpochManifest
from protocols.errors import DishonestMember, ProtocolError
from protocols.identity import verify
from protocols.keys import commit
from protocols.pack import pack

SECRETS = ("self seed", "recovery secret")


def setup_hash(
    manifest: EpochManifest, keys: Mapping[str, KeysMessage], shares: Mapping[str, SharesMessage] | Mapping[str, RelayedShares]
) -> bytes:
    """What every member signs: the terms, all keys, and all headers, which bind every part."""
    return setup_hash_of(
        manifest, {name: message.hash for name, message in keys.items()}, {name: shown.header.hash for name, shown in shares.items()}
    )


def setup_hash_of(manifest: EpochManifest, keys: Mapping[str, bytes], headers: Mapping[str, bytes]) -> bytes:
    """The same from the hashes of all keys messages and of all headers, by member."""
    parts = {f"k/{name}": digest for name, digest in keys.items()} | {f"s/{name}": digest for name, digest in headers.items()}
    return hashlib.sha256(b"consortium epoch setup 1\0" + manifest.hash + pack(parts)).digest()


def keys_hash(keys: Mapping[str, KeysMessage]) -> bytes:
    return hashlib.sha256(b"consortium epoch keys all 1\0" + pack({name: message.hash for name, message in keys.items()})).digest()


def check_keys(manifest: EpochManifest, keys: Mapping[str, KeysMessage], entries: Mapping[str, bytes]) -> None:
    """Raises unless there is exactly one correctly signed message of every member for this epoch."""
    if set(keys) != set(manifest.members):
        raise ProtocolError("the keys are not those of exactly the members of this epoch")
    for name, message in keys.items():
        check_keys_of(name, message, manifest, entries[name])


def check_keys_of(name: str, message: KeysMessage, manifest: EpochManifest, public_key: bytes) -> None:
    """Raises unless the message is the named member's for this epoch."""
    if message.sender != name or message.epoch_hash != manifest.hash:
        raise ProtocolError(f"the keys relayed as those of {name} are for another sender or epoch")
    verify(public_key, message.signed(), message.signature, name)


def check_relayed(
    manifest: EpochManifest, keys: Mapping[str, KeysMessage], shares: Mapping[str, RelayedShares], entries: Mapping[str, bytes], me: str
) -> None:
    """Raises unless every member is shown with one correctly signed header, dealt on the same keys, and its true part for `me`."""
    if set(shares) != set(manifest.members):
        raise ProtocolError("the shares are not those of exactly the members of this epoch")
    expected, number = keys_hash(keys), manifest.number(me)
    for name, shown in shares.items():
        _check_header(name, shown.header, manifest, expected, entries[name])
        check_incarnation(name, keys[name].incarnation, shown.header.incarnation)
        if shown.part.hash != shown.header.part_hash(number):
            raise ProtocolError(f"the shares relayed from {name} to {me} are not those that {name} signed; the coordinator altered them")
        _check_part(name, shown.part, manifest)


def check_dealt_by(name: str, message: SharesMessage, manifest: EpochManifest, keys: Mapping[str, KeysMessage], public_key: bytes) -> None:
    """Raises unless all that a member deals is its own for this epoch, dealt on these keys, with every part that its header binds."""
    header = message.header
    _check_header(name, header, manifest, keys_hash(keys), public_key)
    check_incarnation(name, keys[name].incarnation, header.incarnation)
    if b"".join(part.hash for part in message.parts) != header.part_hashes:
        raise DishonestMember(name, "dealt other shares than its header says; leave it out")
    for part in message.parts:
        _check_part(name, part, manifest)


def check_incarnation(name: str, earlier: int, now: int) -> None:
    """Raises unless a member goes on with the ledger that it began the setup with."""
    if earlier != now:
        raise ProtocolError(f"{name} began this epoch with incarnation {earlier} of its ledger and goes on with {now}; begin a new epoch")


def check_share(message: SharesMessage, manifest: EpochManifest, slot: int, holder: str, secret: int, share: bytes) -> bool:
    """Whether a share is the one that its dealer committed to."""
    return check_part_share(message.parts[manifest.number(holder) - 1], slot, secret, share)


def check_part_share(part: SharesPart, slot: int, secret: int, share: bytes) -> bool:
    return hmac.compare_digest(commit("share", share), part.commitment(slot, secret))


def check_secret(message: SharesMessage, slot: int, secret: int, value: bytes) -> bool:
    """Whether an opened secret is the one that its dealer committed to."""
    return hmac.compare_digest(commit(SECRETS[secret], value), message.header.commitment(slot, secret))


def check_opened_seeds(
    epoch: EpochState, slot: int, self_seeds: Mapping[str, bytes], pair_seeds: Mapping[str, Mapping[str, bytes]]
) -> None:
    """Whether seeds that are said to have been opened are those that a member knows of: commitments to all self seeds, own pair seeds.

    Raises:
        ProtocolError: one is not.
    """
    for name, seed in self_seeds.items():
        if not hmac.compare_digest(commit(SECRETS[0], seed), epoch.commitment(name, slot, 0)):
            raise ProtocolError(f"the self seed that is shown of {name} is not the one that it committed to")
    for name, seeds in pair_seeds.items():
        known = epoch.pair_seeds if name == epoch.sender else {epoch.sender: epoch.pair_seeds[name]}  # by other member
        for other in seeds.keys() & known.keys():
            if not hmac.compare_digest(seeds[other], known[other][slot]):
                raise ProtocolError(f"the pair seed that is shown of {name} and {other} is not theirs")


def certified(manifest: EpochManifest, setup: bytes, published: bytes) -> bytes:
    """What a member signs at the end: the setup, and the hash of what it publishes."""
    return b"consortium epoch certificate 1\0" + manifest.hash + setup + published


def _check_header(name: str, header: SharesHeader, manifest: EpochManifest, expected: bytes, public_key: bytes) -> None:
    if header.sender != name or header.epoch_hash != manifest.hash:
        raise ProtocolError(f"the shares relayed as those of {name} are for another sender or epoch")
    # Before the signature holds, nothing in the message is held against its sender.
    verify(public_key, header.signed(), header.signature, name)
    if header.keys_hash != expected:
        raise ProtocolError(f"{name} was shown other keys than this member; the coordinator split the setup")
    if len(header.commitments) != 2 * HASH_BYTES * manifest.slots or len(header.part_hashes) != HASH_BYTES * manifest.n:
        raise DishonestMember(name, "did not commit to every secret and part; leave it out")


def _check_part(name: str, part: SharesPart, manifest: EpochManifest) -> None:
    if len(part.commitments) != 2 * HASH_BYTES * manifest.slots:
        raise DishonestMember(name, "did not commit to every share; leave it out")
