"""Who calls: the registry is asked at every call which certificate is whose, so that a revocation holds at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coordinator.certificates import certificate_sha256
from coordinator.errors import NotAuthorised
from coordinator.participants import sent_away
from coordinator.registry.records import Participant
from coordinator.service.served import Caller, Former, Invited, Member, Resources


def caller_of(resources: Resources, auth_context: Mapping[str, Sequence[bytes]]) -> Caller:
    """The caller whose certificate the connection showed.

    Raises:
        NotAuthorised: nobody's, or that of an institution that was revoked.
    """
    pem = next(iter(auth_context.get("x509_pem_cert", ())), b"")
    if not pem:
        raise NotAuthorised("this connection shows no certificate; connect with the one that the operator issued")
    digest = certificate_sha256(pem)
    registry = resources.registry
    if (participant := registry.participant_by_certificate(digest)) is not None:
        return Member(_not_revoked(participant))
    if (invitation := registry.invitation(digest)) is not None:
        return Invited(invitation)
    if (name := resources.authority.issued_to(digest)) is not None:
        return Former(_not_revoked(registry.participant(name)))
    raise NotAuthorised("the registry does not know this certificate; ask the operator for an invitation")


def _not_revoked(participant: Participant) -> Participant:
    if participant.revoked_at is not None:
        raise NotAuthorised(sent_away(participant))
    return participant
