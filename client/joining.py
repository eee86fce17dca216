"""Joining a consortium: the request goes to the operator, a person approves it there, and the certificate comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from client.checks.connection import operator_time
from client.connection import RUNTIME_PORT, connect, connect_with, load_connection
from client.errors import JoiningError, ServiceRefused
from client.institution import read_membership
from client.new_folder import INVITATION, REQUEST, make_folder_to_join, signing_request
from client.succession import check_former, take_over
from protocols.curve_keys import load_tls_key
from protocols.errors import ConsortiumError
from protocols.files import write_file
from protocols.fingerprint import fingerprint
from protocols.identity import Identity
from protocols.invitation import InvitationFile, read_invitation
from protocols.service import JOIN, RENEW, JoinAnswer, JoinRequest, RenewRequest

APPROVED, STATES = "approved", ("waiting", "approved", "refused")
RENEW_BEFORE = timedelta(days=60)
Clock = Callable[[], datetime]  # aware


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an institution stands with the operator, the words of both identity keys, and until when its certificate holds."""

    name: str
    coordinator: str
    state: str  # waiting, approved or refused
    fingerprint: str
    coordinator_fingerprint: str
    valid_until: datetime | None = None


def join(
    folder: Path,
    invitation: InvitationFile,
    clock: Clock,
    randomness: Callable[[int], bytes],
    runtime_port: int = RUNTIME_PORT,
    former: Path | None = None,
) -> Standing:
    """Makes the folder and its keys where they are missing, hands in the request, and says where it stands.

    Args:
        former: the folder that the institution had before it was revoked, whose ledger and roster move into the new one.

    Raises:
        ConsortiumError: the folder is another's or of a revoked institution, or the service refuses or cannot be reached; a repeated call
            goes on with the same keys.
    """
    if former is not None:
        check_former(former, folder, invitation)
    if _holds(folder, clock()):
        _check_not_revoked(folder, clock)
    make_folder_to_join(folder, invitation, randomness, runtime_port)
    if former is not None:
        take_over(former, folder, time.sleep)
    return fetch_certificate(folder, clock)


def fetch_certificate(folder: Path, clock: Clock) -> Standing:
    """Asks where the request stands and keeps the certificate of an approved one; one that ends soon is renewed.

    Raises:
        ConsortiumError: the folder has not joined, the service refuses or cannot be reached, or its certificate is not for this key.
    """
    name = read_membership(folder).name
    if (folder / INVITATION).exists() and not _holds(folder, clock()):
        state = _ask(folder, name, clock)
    else:
        state = APPROVED
        _renew(folder, name, clock)
    if state == APPROVED:
        (folder / INVITATION).unlink(missing_ok=True)
    return _standing(folder, state)


def own_fingerprint(folder: Path) -> str:
    """The words of this institution's identity key, to be compared with what the operator sees."""
    name = read_membership(folder).name
    return fingerprint(name, Identity.load(name, folder / "identity.key").public_key)


def _check_not_revoked(folder: Path, clock: Clock) -> None:
    """Raises ServiceRefused; where nobody can say, the certificate is whole, and the next call learns it."""
    try:
        operator_time(folder, clock)
    except ServiceRefused:
        raise
    except ConsortiumError:
        return


def _ask(folder: Path, name: str, clock: Clock) -> str:
    invitation, request = read_invitation(folder / INVITATION), JoinRequest.from_bytes((folder / REQUEST).read_bytes())
    with connect_with(invitation.service, invitation.ca, invitation.certificate, invitation.key, clock()) as service:
        answer: JoinAnswer = service.call(JOIN, request)
    if answer.state not in STATES:  # it is shown beside the words that are read out
        raise JoiningError("what the operator's service says of the request is no state of one; both sides must run the same version")
    if answer.state == APPROVED:
        _keep(folder, name, answer.certificate)
    return answer.state


def _renew(folder: Path, name: str, clock: Clock) -> None:
    """The key stays the same: a new one could not take its place in one step with its certificate."""
    if _certificate(folder).not_valid_after_utc - clock() > RENEW_BEFORE:
        return
    with connect(folder, clock) as service:
        _keep(folder, name, service.call(RENEW, RenewRequest(signing_request(folder, name))).certificate)


def _keep(folder: Path, name: str, certificate: str) -> None:
    """Writes `tls.pem`, if it is for this name and key and the operator's authority issued it."""
    try:
        issued = x509.load_pem_x509_certificate(certificate.encode())
        key, subject = issued.public_key(), issued.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except ValueError:
        raise JoiningError("what the operator sent is no certificate; tell the operator") from None
    if not _is_of_authority(folder, issued):
        raise JoiningError("the operator sent a certificate that its own authority did not issue; tell the operator")
    if [part.value for part in subject] != [f"institution:{name}"] or key != load_tls_key(folder / "tls.key").public_key():
        raise JoiningError(f"the operator sent a certificate that is not for {name} with this folder's key; tell the operator")
    write_file(folder / "tls.pem", certificate.encode())


def _is_of_authority(folder: Path, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _holds(folder: Path, now: datetime) -> bool:
    """Whether there is a certificate that the service will take, so that an invitation says nothing new."""
    if not (folder / "tls.pem").exists():
        return False
    certificate = _certificate(folder)
    return now < certificate.not_valid_after_utc and _is_of_authority(folder, certificate)


def _standing(folder: Path, state: str) -> Standing:
    membership, coordinator = read_membership(folder), load_connection(folder).coordinator
    valid_until = _certificate(folder).not_valid_after_utc if state == APPROVED else None
    words = own_fingerprint(folder), fingerprint(coordinator, membership.coordinator_key)
    return Standing(membership.name, coordinator, state, *words, valid_until)


def _certificate(folder: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate((folder / "tls.pem").read_bytes())
    except (OSError, ValueError):
        raise JoiningError(f"{folder / 'tls.pem'} is no certificate; join with `consortium client init --invite FILE`") from None
