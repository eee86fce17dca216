"""The institution's own files: which there must be, and that secrets are their owner's alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from client.checks.finding import Finding, checked, failed, ok
from client.errors import SettingsError
from client.institution import Membership, read_membership
from protocols.curve_keys import load_tls_key
from protocols.identity import Identity

SECRETS = ("identity.key", "node.key", "tls.key")
JOINED = (*SECRETS, "tls.pem", "ca.pem", "connection.toml", "roster.toml", "policy.toml")
SOON = timedelta(days=30)
_OTHERS = 0o077


def check_files(folder: Path) -> Finding:
    """Whether every file of an institution that joined is there."""
    lacking = [name for name in JOINED if not (folder / name).is_file()]
    if lacking:
        joining = "`consortium client init --invite FILE` makes the folder's files, and `consortium client status` fetches tls.pem"
        return failed("files", f"{folder} has no {', '.join(lacking)}", joining)
    return ok("files", f"{folder} has everything that an institution needs")


def check_modes(folder: Path) -> Finding:
    """Whether nobody but its owner may read a secret."""
    there = [folder / name for name in SECRETS if (folder / name).exists()]
    if open_to_others := [path.name for path in there if path.stat().st_mode & _OTHERS]:
        remedy = f"chmod 600 {' '.join(open_to_others)}; who could read them until now may have copied them"
        return failed("secrets", f"others on this machine may read {', '.join(open_to_others)}", remedy)
    return ok("secrets", "keys are their owner's alone")


def check_identity(membership: Membership, identity: Identity) -> Finding:
    """Whether the identity key is the one that the institution's own roster has."""
    own = [entry.public_key for entry in membership.roster.entries if entry.name == membership.name]
    if own != [identity.public_key]:
        sentence = f"roster.toml does not list {membership.name} with the key in identity.key"
        return failed("identity", sentence, "restore both files from the same backup")
    return ok("identity", f"{membership.name} has the key that its own roster lists")


def check_certificate(certificate: x509.Certificate, own: bool, now: datetime) -> Finding:
    """Whether the certificate is for the folder's key (`own`), and how long it holds."""
    until, name = certificate.not_valid_after_utc, "certificate"
    if not own:
        return failed(name, "tls.pem is not for the key in tls.key", "run `consortium client status`, or restore both files together")
    if now >= until:
        remedy = "ask the operator for a new invitation and run `consortium client init` with it in this folder"
        return failed(name, f"tls.pem was valid until {until:%Y-%m-%d}", remedy)
    days = (until - now).days
    if until - now < SOON:
        return Finding(name, "warning", f"tls.pem is valid for {days} more days", "run `consortium client status`, which renews it")
    return ok(name, f"tls.pem is valid for {days} more days")


def read_certificate(folder: Path) -> tuple[x509.Certificate, bool]:
    """The folder's certificate, and whether it is for the folder's key.

    Raises:
        SettingsError: it is damaged. ConsortiumError: the key is.
    """
    try:
        certificate = x509.load_pem_x509_certificate((folder / "tls.pem").read_bytes())
    except ValueError:
        raise SettingsError(f"{folder / 'tls.pem'} is no certificate; `consortium client status` fetches it again") from None
    return certificate, certificate.public_key() == load_tls_key(folder / "tls.key").public_key()


def folder_findings(folder: Path, clock: Callable[[], datetime]) -> Iterator[Finding]:
    """All of this group."""
    yield check_files(folder)
    yield check_modes(folder)
    if (folder / "identity.key").is_file() and (folder / "roster.toml").is_file():
        yield checked("identity", lambda: _identity(folder), lambda own: check_identity(*own))
    if (folder / "tls.pem").is_file():
        yield checked("certificate", lambda: read_certificate(folder), lambda read: check_certificate(*read, clock()))


def _identity(folder: Path) -> tuple[Membership, Identity]:
    membership = read_membership(folder)
    return membership, Identity.load(membership.name, folder / "identity.key")
