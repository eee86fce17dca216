"""How an institution comes in: it is invited once, asks once, and a person approves or refuses."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import RegistryError
from coordinator.registry.bodies import approval_body, invitation_body, join_request_body
from coordinator.registry.conversion import invitation_of, join_request_of, participant_of
from coordinator.registry.participants import active_participant, add_participant
from coordinator.registry.reading import read_rows
from coordinator.registry.records import Invitation, JoinRequest, Participant
from coordinator.registry.states import JoinState
from coordinator.registry.tables import InvitationRow, JoinRequestRow, ParticipantRow
from coordinator.registry.transactions import Change, Transactions, reads, writes


class Joining(Transactions):
    """Invitations and requests to join; certificates and signatures are checked by the callers."""

    @writes
    def invite(self, change: Change, invitation: Invitation) -> Invitation:
        """Writes an invitation; a former one of the same name opens nothing from now on."""
        row = change.session.scalars(select(InvitationRow).where(InvitationRow.name == invitation.name)).first()
        if row is None:
            row = InvitationRow(name=invitation.name)
            change.session.add(row)
        row.certificate_sha256, row.expires_at = invitation.certificate_sha256, invitation.expires_at
        row.created_at, row.used_at = change.now, None
        change.append("invited", None, invitation_body(invitation))
        return invitation_of(row)

    @reads
    def invitation(self, session: Session, certificate_sha256: str) -> Invitation | None:
        """The invitation with this certificate, used or not, if it was not replaced by another."""
        query = select(InvitationRow).where(InvitationRow.certificate_sha256 == certificate_sha256)
        return next(iter(read_rows(session, query, invitation_of)), None)

    @writes
    def request_join(self, change: Change, request: JoinRequest) -> JoinRequest:
        """Uses the invitation of this name up; the same request once more changes nothing and gives its present state.

        Raises:
            RegistryError: the name has no invitation that is unused and not expired.
        """
        row = change.session.scalars(select(JoinRequestRow).where(JoinRequestRow.name == request.name)).first()
        if row is not None and join_request_body(join_request_of(row)) == join_request_body(request):
            return join_request_of(row)
        _use_invitation(change, request.name)
        if row is None:
            row = JoinRequestRow(name=request.name)
            change.session.add(row)
        row.identity_key, row.node_key, row.csr, row.signature = request.identity_key, request.node_key, request.csr, request.signature
        row.requested_at, row.state = change.now, JoinState.WAITING
        change.append("join-requested", None, join_request_body(request))
        return join_request_of(row)

    @reads
    def join_requests(self, session: Session) -> tuple[JoinRequest, ...]:
        """The latest request of every name, in the order of names; those that wait are among them."""
        return read_rows(session, select(JoinRequestRow).order_by(JoinRequestRow.name), join_request_of)

    @writes
    def approve(self, change: Change, name: str, certificate_sha256: str) -> Participant:
        """Makes an institution of a waiting request, with the client certificate that was issued for it.

        One that is known keeps its identity key: another needs a rotation, unless the institution was revoked before.

        Raises:
            RegistryError: nothing waits under this name, or the key is another.
        """
        request = _waiting(change.session, name)
        row = change.session.scalars(select(ParticipantRow).where(ParticipantRow.name == name)).first()
        if row is None or row.revoked_at is None:
            row = add_participant(change, Participant(name, request.identity_key))
        request.state = JoinState.APPROVED
        row.public_key, row.node_key, row.certificate_sha256 = request.identity_key, request.node_key, certificate_sha256
        row.revoked_at, row.revoked_reason = None, ""
        approved = participant_of(row)
        change.append("participant-approved", None, approval_body(approved))
        return approved

    @writes
    def renew_certificate(self, change: Change, name: str, certificate_sha256: str) -> Participant:
        """Puts another client certificate in the place of an institution's present one.

        Raises:
            RegistryError: there is no such institution, or it was revoked.
        """
        row = active_participant(change.session, name)
        row.certificate_sha256 = certificate_sha256
        change.append("certificate-renewed", None, {"name": name, "certificate_sha256": certificate_sha256})
        return participant_of(row)

    @writes
    def refuse_join(self, change: Change, name: str, reason: str) -> JoinRequest:
        """Refuses a waiting request; the reason stands in the event chain."""
        request = _waiting(change.session, name)
        request.state = JoinState.REFUSED
        change.append("join-refused", None, {"name": name, "reason": reason})
        return join_request_of(request)


def _use_invitation(change: Change, name: str) -> None:
    row = change.session.scalars(select(InvitationRow).where(InvitationRow.name == name)).first()
    fault = "was not invited" if row is None else "used its invitation" if row.used_at else "came after its invitation expired"
    if row is None or row.used_at is not None or row.expires_at <= change.now:
        raise RegistryError(f"{name} {fault}; ask the operator for a new invitation")
    row.used_at = change.now


def _waiting(session: Session, name: str) -> JoinRequestRow:
    row = session.scalars(select(JoinRequestRow).where(JoinRequestRow.name == name)).first()
    if row is None or row.state is not JoinState.WAITING:
        state = "did not ask to join" if row is None else f"was {row.state.value} before"
        raise RegistryError(f"{name} {state}; `consortium coordinator participants` lists who waits")
    return row
