"""Inviting an institution: a name, a certificate to join with once, and the file that carries both."""

from __future__ import annotations

from datetime import datetime, timedelta

from coordinator.authority import Authority
from coordinator.certificates import certificate_sha256
from coordinator.registry import Registry
from coordinator.registry.records import Invitation
from coordinator.settings import ServeSettings
from protocols.invitation import InvitationFile
from protocols.names import check_institution_name

INVITATION_DAYS = 14


def invite(
    registry: Registry, authority: Authority, name: str, serve: ServeSettings, coordinator_key: bytes, now: datetime
) -> InvitationFile:
    """Writes down that `name` is invited, and returns the file to hand over; the private key in it is kept nowhere here.

    Raises:
        ConsortiumError: the name cannot be one, or is not free.
    """
    check_institution_name(name)
    pair, expires = authority.bootstrap(name), now + timedelta(days=INVITATION_DAYS)
    registry.invite(Invitation(name, certificate_sha256(pair.certificate), expires))
    return InvitationFile(
        institution=name,
        coordinator=serve.name,
        coordinator_key=coordinator_key.hex(),
        fence=serve.fence,
        service=serve.service,
        expires=expires.isoformat(timespec="seconds"),
        ca=authority.certificate_pem.decode(),
        certificate=pair.certificate.decode(),
        key=pair.key.decode(),
    )
