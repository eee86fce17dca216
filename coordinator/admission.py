"""Admission: an invited institution's request is checked and kept, a person approves it, and only then is a certificate issued."""

from __future__ import annotations

from datetime import datetime, timedelta

from coordinator.authority import Authority
from coordinator.certificates import as_pem, check_request
from coordinator.errors import AdmissionError
from coordinator.participants import sent_away
from coordinator.registry import Registry, records
from coordinator.registry.states import JoinState
from protocols.curve_keys import check_node_key
from protocols.fingerprint import fingerprint
from protocols.identity import verify
from protocols.service import JoinAnswer, JoinRequest

RENEW_AFTER = timedelta(days=1)


def request_to_join(
    registry: Registry, authority: Authority, coordinator_key: bytes, invitation: records.Invitation, request: JoinRequest, now: datetime
) -> JoinAnswer:
    """Keeps a request under its invitation, which is used up by it; the same request again is told where it stands.

    Raises:
        ConsortiumError: the invitation is another's, expired, or used for other keys; or the request's keys are not in order.
    """
    _check_request(invitation, coordinator_key, request)
    asked = _recorded(request)
    earlier = find_request(registry, request.name)
    if earlier is not None and _keys(earlier) == _keys(asked):
        return _answer(registry, authority, earlier, now)
    if invitation.used_at is not None:
        raise AdmissionError(
            f"the invitation of {request.name} was used for other keys; ask the operator whether it was you, and for a new one"
        )
    if now >= invitation.expires_at:
        raise AdmissionError(f"the invitation of {request.name} ended on {invitation.expires_at:%Y-%m-%d}; ask the operator for a new one")
    _check_keys_are_new(registry, asked)
    registry.request_join(asked)
    return JoinAnswer(JoinState.WAITING.value)


def request_fingerprint(request: records.JoinRequest) -> str:
    """The words that operator and institution compare."""
    return fingerprint(request.name, bytes.fromhex(request.identity_key))


def approve(registry: Registry, authority: Authority, request: records.JoinRequest) -> records.Participant:
    """Issues the certificate, then records the institution; a call that was interrupted may be repeated.

    Raises:
        AdmissionError: another request waits under the name by now; its words are to be compared first.
    """
    if _keys(waiting_request(registry, request.name)) != _keys(request):
        raise AdmissionError(f"{request.name} has asked again with other keys; compare its words before approving it")
    return registry.approve(request.name, authority.issue(request.name, request.csr))


def renew_certificate(
    registry: Registry, authority: Authority, participant: records.Participant, csr: str, superseded: bool, now: datetime
) -> str:
    """Another certificate (PEM) in place of the present one, once a day at most: each is an event that all institutions follow.

    `superseded` says that the caller showed an earlier certificate: its renewal was recorded and the answer may have been lost, so
    the present certificate is answered if it is for the same key, and nothing is changed.

    Raises:
        AdmissionError: it is no signing request, a superseded caller asks for another key, or another one came within the day.
    """
    key, name = check_request(csr), participant.name
    present = authority.issued(participant.certificate_sha256) if participant.certificate_sha256 else None
    is_young = present is not None and now < present.not_valid_before_utc + RENEW_AFTER
    if present is not None and present.public_key() == key and (superseded or is_young):
        return as_pem(present).decode()
    if superseded:
        raise AdmissionError(f"this certificate of {name} was replaced by one with another key; connect with that one")
    if is_young:
        raise AdmissionError(f"{name} got a certificate within the last day; ask for one with another key tomorrow")
    digest = authority.issue(name, csr)
    registry.renew_certificate(name, digest)
    return as_pem(authority.issued(digest)).decode()


def waiting_request(registry: Registry, name: str) -> records.JoinRequest:
    """The request of `name` that waits for approval.

    Raises:
        AdmissionError: there is none.
    """
    request = find_request(registry, name)
    if request is None or request.state is not JoinState.WAITING:
        state = "has not asked to join" if request is None else f"is {request.state.value} already"
        if (gone := revoked_participant(registry, name)) is not None and request is not None and request.state is JoinState.APPROVED:
            raise AdmissionError(
                f"{name} was revoked ({gone.revoked_reason}) and has not asked to come back; `consortium coordinator invite {name}` lets it"
            )
        raise AdmissionError(f"{name} {state}; `consortium coordinator participants` lists who waits")
    return request


def find_request(registry: Registry, name: str) -> records.JoinRequest | None:
    """The request of `name`, in whatever state."""
    return next((request for request in registry.join_requests() if request.name == name), None)


def revoked_participant(registry: Registry, name: str) -> records.Participant | None:
    """The institution of this name, if it was revoked and is not back."""
    return next((one for one in registry.participants() if one.name == name and one.revoked_at is not None), None)


def _check_request(invitation: records.Invitation, coordinator_key: bytes, request: JoinRequest) -> None:
    if request.name != invitation.name:
        raise AdmissionError(
            f"the invitation is for {invitation.name} and the request says {request.name[:60]}; join under the invited name"
        )
    if request.coordinator_key != coordinator_key:
        raise AdmissionError("the request was made for another coordinator; use the invitation that this operator sent")
    verify(request.identity_key, request.signed(), request.signature, request.name)
    check_node_key(request.node_key)
    check_request(request.csr)


def _check_keys_are_new(registry: Registry, asked: records.JoinRequest) -> None:
    """Keys are public: who hands in another's would stand in its place at the SuperLink, or make every roster contradict itself."""
    known = [(one.name, one.public_key, one.node_key) for one in registry.participants()]
    known += [(one.name, one.identity_key, one.node_key) for one in registry.join_requests()]
    if any(name != asked.name and (key == asked.identity_key or node == asked.node_key) for name, key, node in known):
        raise AdmissionError(f"{asked.name} asks to join with a key of another institution; make keys of its own")


def _recorded(request: JoinRequest) -> records.JoinRequest:
    return records.JoinRequest(request.name, request.identity_key.hex(), request.node_key, request.csr, request.signature.hex())


def _keys(request: records.JoinRequest) -> tuple[str, ...]:
    return request.identity_key, request.node_key, request.csr, request.signature


def _answer(registry: Registry, authority: Authority, request: records.JoinRequest, now: datetime) -> JoinAnswer:
    """An approved institution whose certificate has ended comes back with a new invitation and gets another certificate."""
    if request.state is not JoinState.APPROVED:
        return JoinAnswer(request.state.value)
    participant = registry.participant(request.name)
    if participant.revoked_at is not None:
        raise AdmissionError(sent_away(participant))
    if participant.certificate_sha256 is None:
        return JoinAnswer(JoinState.REFUSED.value)
    certificate = authority.issued(participant.certificate_sha256)
    if certificate.not_valid_after_utc > now:
        return JoinAnswer(request.state.value, as_pem(certificate).decode())
    return JoinAnswer(request.state.value, renew_certificate(registry, authority, participant, request.csr, False, now))
