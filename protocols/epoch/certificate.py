"""The epoch certificate: all members' signatures on one and the same setup."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.epoch.checks import certified, enveloped, setup_hash
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
    setup = setup_hash(manifest, keys, shares)
    read = {name: Confirmation.from_bytes(data) for name, data in confirmations.items()}
    for name in manifest.members:
        if name not in read or read[name].setup_hash != setup or len(read[name].envelopes) != manifest.slots:
            raise ProtocolError(f"{name} did not confirm this setup; begin again with new keys")
        verify(roster.key_of(name), enveloped(manifest, setup, read[name].envelopes), read[name].envelopes_signature, name)
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
        verify(roster.key_of(name), certified(manifest, certificate.setup_hash), signature, name)
