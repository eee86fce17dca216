"""Join and Renew: an invited institution hands in its keys, an approved one gets its certificates."""

from __future__ import annotations

from coordinator.admission import request_to_join, renew_certificate
from coordinator.service.served import Former, Invited, Member, Resources, Served
from protocols.service import JOIN, RENEW, IssuedCertificate, JoinRequest, JoinState, RenewRequest


def _join(resources: Resources, caller: Invited, request: JoinRequest) -> JoinState:
    return request_to_join(resources.registry, resources.authority, caller.invitation, request, resources.clock())


def _renew(resources: Resources, caller: Member | Former, request: RenewRequest) -> IssuedCertificate:
    certificate = renew_certificate(resources.registry, resources.authority, caller.participant, request.csr, isinstance(caller, Former))
    return IssuedCertificate(certificate)


JOINING = (Served(JOIN, (Invited,), _join), Served(RENEW, (Member, Former), _renew))
