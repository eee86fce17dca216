"""An institution's new folder: keys that are made here and stay here, commented settings, and the request to join.

Everything is on disk before anything is sent, so that an interrupted or repeated call goes on with the same keys.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from client.connection import RUNTIME_PORT, ConnectionSettings, load_connection, write_connection
from client.errors import JoiningError
from client.institution import Membership, read_membership, write_membership
from client.settings import InstitutionSettings, write_settings
from model.bases import bundled_base, bundled_names
from protocols.curve_keys import load_tls_key, node_key, openssh_public, tls_key
from protocols.files import make_folder, write_file
from protocols.identity import Identity
from protocols.invitation import InvitationFile, read_invitation, write_invitation
from protocols.policy import Policy, write_policy
from protocols.roster import Roster, RosterEntry
from protocols.service import JoinRequest

INVITATION, REQUEST = "invitation.toml", "join.request"
_OWN = ("identity.key", "node.key", "tls.key", "institution.toml", "policy.toml")


def make_folder_to_join(
    folder: Path, invitation: InvitationFile, randomness: Callable[[int], bytes], runtime_port: int = RUNTIME_PORT
) -> None:
    """Makes the institution's folder and its request; keys and settings that an earlier call made stay as they are.

    Raises:
        JoiningError: the folder belongs to another institution or coordinator; nothing was changed.
    """
    _check_free(folder, invitation)
    make_folder(folder, 0o700)  # records, and the URL of a database with its password, may come to lie here
    write_invitation(folder / INVITATION, invitation)  # first: it says whose the folder is
    write_file(folder / "ca.pem", invitation.ca.encode())
    identity, node_public = _make_keys(folder, invitation.institution, randomness)
    _write_settings(folder, invitation, identity, runtime_port)
    if (folder / REQUEST).exists():
        return
    request = JoinRequest(
        name=identity.name,
        coordinator_key=bytes.fromhex(invitation.coordinator_key),
        identity_key=identity.public_key,
        node_key=node_public,
        csr=signing_request(folder, identity.name),
        signature=b"",
    )
    write_file(folder / REQUEST, request.signed_by(identity.sign).to_bytes())


def signing_request(folder: Path, name: str) -> str:
    """A request (PEM) for a certificate of the folder's TLS key."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signed = x509.CertificateSigningRequestBuilder(subject).sign(load_tls_key(folder / "tls.key"), SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


def _check_free(folder: Path, invitation: InvitationFile) -> None:
    if (owner := _owner(folder)) is None:
        if any((folder / name).exists() for name in _OWN):
            raise JoiningError(f"{folder} holds keys or settings of something else; name an empty folder with --institution")
        return
    name, coordinator_key = owner
    if name != invitation.institution:
        raise JoiningError(
            f"{folder} is {name}'s and the invitation is for {invitation.institution}; name another folder with --institution"
        )
    if coordinator_key != invitation.coordinator_key:
        raise JoiningError(f"{folder} belongs to a consortium of another coordinator; name another folder with --institution")


def _owner(folder: Path) -> tuple[str, str] | None:
    """Name and coordinator's key that the folder was made for; None where none was."""
    if (folder / "roster.toml").exists():
        membership = read_membership(folder)
        return membership.name, membership.coordinator_key.hex()
    if (folder / INVITATION).exists():
        earlier = read_invitation(folder / INVITATION)
        return earlier.institution, earlier.coordinator_key
    return None


def _make_keys(folder: Path, name: str, randomness: Callable[[int], bytes]) -> tuple[Identity, str]:
    """The identity, and the public line of the SuperNode's key; what is there is read."""
    if not (folder / "identity.key").exists():
        Identity.generate(name, randomness).save(folder / "identity.key")
    public = openssh_public(node_key(folder / "node.key", randomness))
    write_file(folder / "node.pub", f"{public}\n".encode())
    tls_key(folder / "tls.key", randomness)
    return Identity.load(name, folder / "identity.key"), public


def _write_settings(folder: Path, invitation: InvitationFile, identity: Identity, runtime_port: int) -> None:
    _write_connection(folder, invitation, runtime_port)
    if not (folder / "institution.toml").exists():
        bases = {name: str(bundled_base(name)) for name in bundled_names()}
        content = {"records": {"source": "records.jsonl", "test_fraction": 0.2}, "bases": bases}
        write_settings(folder / "institution.toml", InstitutionSettings.model_validate(content))
    if not (folder / "policy.toml").exists():
        write_policy(folder / "policy.toml", Policy())
    if not (folder / "roster.toml").exists():
        alone = Roster((RosterEntry(identity.name, identity.public_key),))
        write_membership(folder, Membership(identity.name, alone, bytes.fromhex(invitation.coordinator_key)))


def _write_connection(folder: Path, invitation: InvitationFile, runtime_port: int) -> None:
    """A new invitation may bring new addresses; what the institution chose itself stays."""
    told = {"coordinator": invitation.coordinator, "fence": invitation.fence, "service": invitation.service}
    own = load_connection(folder).model_dump() if (folder / "connection.toml").exists() else {"runtime_port": runtime_port}
    write_connection(folder, ConnectionSettings.model_validate({**own, **told}))
