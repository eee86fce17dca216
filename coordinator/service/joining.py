"""Join and Renew: an invited institution hands in its keys, an approved one gets its certificates."""

from __future__ import annotations

from coordinator.admission import renew_certificate, request_to_join
from coordinator.service.served import Former, Invited, Member, Resources, Served
from protocols.service import JOIN, RENEW, IssuedCertificate, JoinAnswer, JoinRequest, RenewRequest


def _join(at: Resources, caller: Invited, request: JoinRequest) -> JoinAnswer:
    return request_to_join(at.registry, at.authority, at.coordinator_key, caller.invitation, request, at.clock())


def _renew(at: Resources, caller: Member | Former, request: RenewRequest) -> IssuedCertificate:
    superseded = isinstance(caller, Former)
    return IssuedCertificate(renew_certificate(at.registry, at.authority, caller.participant, request.csr, superseded, at.clock()))


JOINING = (Served(JOIN, (Invited,), _join), Served(RENEW, (Member, Former), _renew))
