"""The epoch certificate: all members' signatures on one and the same setup."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.epoch.checks import certified, check_dealt_by, check_incarnation, check_keys_of, setup_hash
from protocols.epoch.messages import HASH_BYTES, KeysMessage, SharesMessage
from protocols.epoch.published import Confirmation, EpochCertificate, disputed_pairs
from protocols.epoch.terms import EpochManifest
from protocols.errors import DishonestMember, ProtocolError
from protocols.identity import verify
from protocols.roster import Roster


def certify_epoch(
    manifest: EpochManifest,
    keys: Mapping[str, KeysMessage],
    shares: Mapping[str, SharesMessage],
    confirmations: Mapping[str, Confirmation],
) -> EpochCertificate:
    """The coordinator's certificate, of messages that `read_keys`, `read_shares` and `read_confirmation` returned.

    Raises:
        ProtocolError: a confirmation is missing or of another setup, or two members committed to different pair seeds; the text names them.
    """
    setup, members = setup_hash(manifest, keys, shares), manifest.members
    if missing := [name for name in members if name not in confirmations or confirmations[name].setup_hash != setup]:
        raise ProtocolError(f"{', '.join(missing)} did not confirm this setup; begin again with new keys")
    for one, other in disputed_pairs(manifest, confirmations):
        raise ProtocolError(f"{one} and {other} committed to different pair seeds; leave both out and begin again with new keys")
    return EpochCertificate(
        epoch=manifest.epoch,
        epoch_hash=manifest.hash,
        setup_hash=setup,
        published={name: confirmations[name].published for name in members},
        signatures={name: confirmations[name].signature for name in members},
        keys={name: message.hash for name, message in keys.items()},
        shares=dict(shares),
        confirmations=dict(confirmations),
    )


def read_keys(manifest: EpochManifest, roster: Roster, name: str, data: bytes) -> KeysMessage:
    """A member's answer to stage 1, checked as its fellow members will check it.

    Raises:
        ProtocolError: it is malformed or another's.
    """
    message = KeysMessage.from_bytes(data)
    check_keys_of(name, message, manifest, roster.key_of(name))
    return message


def read_shares(manifest: EpochManifest, roster: Roster, keys: Mapping[str, KeysMessage], name: str, data: bytes) -> SharesMessage:
    """A member's answer to stage 2, checked as far as it is not sealed.

    Raises:
        ProtocolError: it is malformed, another's, dealt on other keys, or from another ledger than the keys.
    """
    message = SharesMessage.from_bytes(data)
    check_dealt_by(name, message, manifest, keys, roster.key_of(name))
    return message


def read_confirmation(manifest: EpochManifest, roster: Roster, setup: bytes, dealt: SharesMessage, name: str, data: bytes) -> Confirmation:
    """A member's answer to stage 3, after it dealt `dealt` in stage 2.

    Raises:
        ProtocolError: it is malformed, not this member's confirmation of exactly this setup, or from another ledger than its shares.
    """
    message = Confirmation.from_bytes(data)
    if message.sender != name or message.setup_hash != setup or len(message.envelopes) != manifest.slots:
        raise ProtocolError(f"{name} did not confirm this setup; begin again with new keys")
    verify(roster.key_of(name), certified(manifest, setup, message.published), message.signature, name)
    check_incarnation(name, dealt.header.incarnation, message.incarnation)
    if [len(row) for row in message.rows] != [HASH_BYTES * (manifest.n - 1)] * manifest.slots:
        raise DishonestMember(name, "did not commit to every pair seed; leave it out")
    return message


def verify_epoch(certificate: EpochCertificate, manifest: EpochManifest, roster: Roster, coordinator_key: bytes) -> None:
    """Raises ProtocolError unless these are the coordinator's terms and all members signed one setup of exactly this epoch."""
    manifest.check(roster, coordinator_key)
    named = [set(certificate.signatures), set(certificate.published)]
    if certificate.epoch_hash != manifest.hash or named != 2 * [set(manifest.members)]:
        raise ProtocolError("the certificate is not signed by exactly the members of this epoch")
    for name, signature in certificate.signatures.items():
        verify(roster.key_of(name), certified(manifest, certificate.setup_hash, certificate.published[name]), signature, name)
