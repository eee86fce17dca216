"""The epoch certificate: all members' signatures on one and the same setup."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.epoch.checks import certified, check_keys_of, check_shares_of, enveloped, keys_hash, setup_hash
from protocols.epoch.messages import Confirmation, EpochCertificate, KeysMessage, SharesMessage
from protocols.epoch.terms import EpochManifest
from protocols.errors import ProtocolError
from protocols.identity import verify
from protocols.roster import Roster


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
    if missing := sorted(set(manifest.members) - confirmations.keys()):
        raise ProtocolError(f"{', '.join(missing)} did not confirm this setup; begin again with new keys")
    setup = setup_hash(manifest, keys, shares)
    read = {name: read_confirmation(manifest, roster, setup, name, confirmations[name]) for name in manifest.members}
    signatures = {name: read[name].signature for name in manifest.members}
    envelopes = {name: read[name].envelopes for name in manifest.members}
    certificate = EpochCertificate(manifest.epoch, manifest.hash, setup, signatures, dict(shares), envelopes)
    verify_epoch(certificate, manifest, roster)
    return certificate


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
        ProtocolError: it is malformed, another's, or dealt on other keys.
    """
    message = SharesMessage.from_bytes(data)
    check_shares_of(name, message, manifest, keys_hash(keys), roster.key_of(name))
    return message


def read_confirmation(manifest: EpochManifest, roster: Roster, setup: bytes, name: str, data: bytes) -> Confirmation:
    """A member's answer to stage 3.

    Raises:
        ProtocolError: it is malformed, or not this member's confirmation of exactly this setup.
    """
    message, key = Confirmation.from_bytes(data), roster.key_of(name)
    if message.sender != name or message.setup_hash != setup or len(message.envelopes) != manifest.slots:
        raise ProtocolError(f"{name} did not confirm this setup; begin again with new keys")
    verify(key, enveloped(manifest, setup, message.envelopes), message.envelopes_signature, name)
    verify(key, certified(manifest, setup), message.signature, name)
    return message


def verify_epoch(certificate: EpochCertificate, manifest: EpochManifest, roster: Roster) -> None:
    """Raises ProtocolError unless all members signed the certificate's setup of exactly this epoch."""
    if certificate.epoch_hash != manifest.hash or set(certificate.signatures) != set(manifest.members):
        raise ProtocolError("the certificate is not signed by exactly the members of this epoch")
    for name, signature in certificate.signatures.items():
        verify(roster.key_of(name), certified(manifest, certificate.setup_hash), signature, name)
