"""What an event says about a row: the same function writes it and, in an audit, is compared with the row."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from coordinator.registry.records import (
    Answer,
    Contribution,
    Invitation,
    JoinRequest,
    ModelVersion,
    NewRun,
    Participant,
    Rotation,
    Round,
    Run,
    Voucher,
    Withdrawal,
)


def run_body(run: Run | NewRun) -> dict[str, Any]:
    """What was submitted; the plan itself is in its hash."""
    names = ("plan_name", "plan_sha256", "base_sha256", "terms_sha256", "seed", "rounds", "metric", "higher_is_better")
    return {name: getattr(run, name) for name in names}


def round_body(finished: Round) -> dict[str, Any]:
    """Everything that the row and its contributions hold, aside from the time, which the event carries itself."""
    experts = finished.experts
    # Left out where nothing was spent, as in events that were written before anything could be.
    spent = {"spent": [[one.institution, one.epsilon, one.delta] for one in finished.spent]} if finished.spent else {}
    return {
        "number": finished.number,
        "state_sha256": finished.state_sha256,
        "transcripts": [[name, digest] for name, digest in finished.transcripts.items()],
        "experts": None if experts is None else {str(layer): list(experts[layer]) for layer in sorted(experts)},
        "loss": finished.loss,
        "metric": finished.metric,
        "figures": dict(finished.figures) or None,  # as in events of versions that had none
        "seconds": finished.seconds,
        "contributions": [_part(part) for part in finished.contributions],
        **spent,
    }


def participant_body(participant: Participant) -> dict[str, Any]:
    return {"name": participant.name, "public_key": participant.public_key}


def model_version_body(version: ModelVersion) -> dict[str, Any]:
    names = ("name", "version", "path", "manifest_sha256", "transcript_sha256", "signer", "metric")
    return {name: getattr(version, name) for name in names}


def invitation_body(invitation: Invitation) -> dict[str, Any]:
    return {"name": invitation.name, "certificate_sha256": invitation.certificate_sha256, "expires_at": _moment(invitation.expires_at)}


def join_request_body(request: JoinRequest) -> dict[str, Any]:
    """The certificate request is in its hash."""
    names = ("name", "identity_key", "node_key", "signature")
    return {name: getattr(request, name) for name in names} | {"csr_sha256": sha256(request.csr.encode()).hexdigest()}


def approval_body(participant: Participant) -> dict[str, Any]:
    return {name: getattr(participant, name) for name in ("name", "public_key", "node_key", "certificate_sha256")}


def revocation_body(participant: Participant) -> dict[str, Any]:
    return {"name": participant.name, "reason": participant.revoked_reason}


def rotation_body(rotation: Rotation) -> dict[str, Any]:
    return {"name": rotation.institution, "old_key": rotation.old_key, "new_key": rotation.new_key, "signature": rotation.signature}


def voucher_body(voucher: Voucher) -> dict[str, Any]:
    return {name: getattr(voucher, name) for name in ("subject", "public_key", "by", "signature")}


def answer_body(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in ("institution", "accepted", "reason", "statement", "signature")}


def withdrawal_body(withdrawal: Withdrawal) -> dict[str, Any]:
    """From all runs, or from that of the event."""
    return {name: getattr(withdrawal, name) for name in ("institution", "statement", "signature")}


def _part(part: Contribution) -> list[Any]:
    """The reason is left out where there is none, as in events that were written before there could be one."""
    return [part.institution, part.bytes_up, part.bytes_down, part.missing_from, *([part.reason] if part.reason else [])]


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
