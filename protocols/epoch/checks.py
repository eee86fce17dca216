"""What binds a setup together: its hashes, and whether messages, shares and secrets are those that were committed to."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from protocols.epoch.messages import KeysMessage, SharesMessage
from protocols.epoch.terms import EpochManifest
from protocols.errors import DishonestMember, ProtocolError
from protocols.identity import verify
from protocols.keys import commit
from protocols.pack import pack

SECRETS = ("self seed", "recovery secret")


def setup_hash(manifest: EpochManifest, keys: Mapping[str, KeysMessage], shares: Mapping[str, SharesMessage]) -> bytes:
    """What every member signs: the terms and all setup messages."""
    parts = {f"k/{name}": message.hash for name, message in keys.items()} | {f"s/{name}": message.hash for name, message in shares.items()}
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


def check_shares(
    manifest: EpochManifest, keys: Mapping[str, KeysMessage], shares: Mapping[str, SharesMessage], entries: Mapping[str, bytes]
) -> None:
    """Raises unless there is exactly one correctly signed message of every member, dealt on the same keys."""
    if set(shares) != set(manifest.members):
        raise ProtocolError("the shares are not those of exactly the members of this epoch")
    expected = keys_hash(keys)
    for name, message in shares.items():
        check_shares_of(name, message, manifest, expected, entries[name])


def check_shares_of(name: str, message: SharesMessage, manifest: EpochManifest, expected: bytes, public_key: bytes) -> None:
    """Raises unless the message is the named member's for this epoch, dealt on the keys with the `expected` hash."""
    others = set(manifest.members) - {name}
    if message.sender != name or message.epoch_hash != manifest.hash or set(message.sealed) != others or set(message.ciphertexts) != others:
        raise ProtocolError(f"the shares relayed as those of {name} are for another sender, epoch or cohort")
    # Before the signature holds, nothing in the message is held against its sender.
    verify(public_key, message.signed(), message.signature, name)
    if message.keys_hash != expected:
        raise ProtocolError(f"{name} was shown other keys than this member; the coordinator split the setup")
    if len(message.commitments) != 64 * manifest.slots or len(message.share_commitments) != 64 * manifest.slots * manifest.n:
        raise DishonestMember(name, "did not commit to every secret and share; leave it out")


def check_share(message: SharesMessage, manifest: EpochManifest, slot: int, holder: str, secret: int, share: bytes) -> bool:
    """Whether a share is the one that its dealer committed to."""
    expected = message.share_commitment(slot, manifest.number(holder), manifest.n, secret)
    return hmac.compare_digest(commit("share", share), expected)


def check_secret(message: SharesMessage, slot: int, secret: int, value: bytes) -> bool:
    """Whether an opened secret is the one that its dealer committed to."""
    return hmac.compare_digest(commit(SECRETS[secret], value), message.commitment(slot, secret))


def certified(manifest: EpochManifest, setup: bytes) -> bytes:
    return b"consortium epoch certificate 1\0" + manifest.hash + setup


def enveloped(manifest: EpochManifest, setup: bytes, envelopes: tuple[bytes, ...]) -> bytes:
    return b"consortium epoch envelopes 1\0" + manifest.hash + setup + hashlib.sha256(b"".join(envelopes)).digest()
