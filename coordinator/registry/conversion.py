"""Rows of the database as the frozen records that callers see."""

from __future__ import annotations

from datetime import UTC, datetime

from coordinator.errors import ChainBroken
from coordinator.registry.reading import CHANGED, check_types
from coordinator.registry.records import (
    Answer,
    Contribution,
    Event,
    Invitation,
    JoinRequest,
    ModelVersion,
    Participant,
    Rotation,
    Round,
    Run,
    Spent,
    Voucher,
    Withdrawal,
)
from coordinator.registry.tables import (
    AnswerRow,
    ContributionRow,
    EventRow,
    InvitationRow,
    JoinRequestRow,
    ModelVersionRow,
    ParticipantRow,
    PrivacySpendRow,
    RotationRow,
    RoundRow,
    RunRow,
    VoucherRow,
    WithdrawalRow,
)


def run_of(row: RunRow) -> Run:
    return Run(
        run=row.run,
        plan_name=row.plan_name,
        plan_sha256=row.plan_sha256,
        plan=row.plan,
        base_sha256=row.base_sha256,
        terms_sha256=row.terms_sha256,
        seed=row.seed,
        rounds=row.rounds,
        metric=row.metric,
        higher_is_better=row.higher_is_better,
        state=row.state,
        wanted=row.wanted,
        reason=row.reason,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def round_of(row: RoundRow) -> Round:
    experts = row.experts
    return Round(
        number=row.number,
        state_sha256=row.state_sha256,
        transcripts=dict(row.transcripts),
        contributions=tuple(_contribution_of(part) for part in row.contributions),
        seconds=row.seconds,
        loss=row.loss,
        metric=row.metric,
        experts=None if experts is None else {int(layer): tuple(chosen) for layer, chosen in experts.items()},
        figures={name: float(value) for name, value in (row.figures or {}).items()},
        finished_at=row.finished_at,
        spent=tuple(_spent_of(one) for one in row.spent),
    )


def participant_of(row: ParticipantRow) -> Participant:
    key, revoked = (row.node_key, row.certificate_sha256), (row.revoked_at, row.revoked_reason)
    return Participant(row.name, row.public_key, row.joined_at, *key, *revoked)


def invitation_of(row: InvitationRow) -> Invitation:
    return Invitation(row.name, row.certificate_sha256, row.expires_at, row.used_at, row.created_at)


def join_request_of(row: JoinRequestRow) -> JoinRequest:
    return JoinRequest(row.name, row.identity_key, row.node_key, row.csr, row.signature, row.requested_at, row.state)


def rotation_of(row: RotationRow) -> Rotation:
    return Rotation(_name_of(row), row.old_key, row.new_key, row.signature, row.at)


def voucher_of(row: VoucherRow) -> Voucher:
    return Voucher(row.subject, row.public_key, _name_of(row), row.signature, row.at)


def answer_of(row: AnswerRow) -> Answer:
    return Answer(_name_of(row), row.accepted, row.reason, row.statement, row.signature, row.at)


def withdrawal_of(row: WithdrawalRow) -> Withdrawal:
    return Withdrawal(_name_of(row), None if row.run is None else row.run.run, row.statement, row.signature, row.at)


def model_version_of(row: ModelVersionRow) -> ModelVersion:
    if row.run is None:  # SQLite looks at foreign keys only where it is told to
        raise ChainBroken(f"row {row.id} of `model_versions` names run {row.run_id}, which has no row; {CHANGED}")
    return ModelVersion(
        name=row.name,
        version=row.version,
        run=row.run.run,
        path=row.path,
        manifest_sha256=row.manifest_sha256,
        transcript_sha256=row.transcript_sha256,
        signer=row.signer,
        metric=row.metric,
        released_at=row.released_at,
        withdrawn_at=row.withdrawn_at,
        withdrawn_reason=row.withdrawn_reason,
    )


def event_of(row: EventRow) -> Event:
    return Event(row.sequence, row.kind, row.run, row.at, row.body, _hash_of(row.previous_hash), _hash_of(row.hash))


def unreadable_event(sequence: int) -> Event:
    """In the place of a row that is no event, so that the check of the chain names it and the others can be read."""
    return Event(sequence, "unreadable", None, datetime.min.replace(tzinfo=UTC), "", b"", b"")


def _hash_of(text: str) -> bytes:
    """Empty for what is no hash, so that the check of the chain names the event."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _contribution_of(row: ContributionRow) -> Contribution:
    check_types(row)
    return Contribution(_name_of(row), row.bytes_up, row.bytes_down, row.missing_from, row.reason)


def _spent_of(row: PrivacySpendRow) -> Spent:
    check_types(row)
    return Spent(_name_of(row), row.epsilon, row.delta)


def _name_of(row: ContributionRow | PrivacySpendRow | RotationRow | VoucherRow | AnswerRow | WithdrawalRow) -> str:
    """Of the institution that a row belongs to."""
    participant: ParticipantRow | None = row.participant
    if participant is None:  # SQLite looks at foreign keys only where it is told to
        key = row.by_participant_id if isinstance(row, VoucherRow) else row.participant_id
        raise ChainBroken(f"row {row.id} of `{row.__tablename__}` names participant {key}, which has no row; {CHANGED}")
    check_types(participant)
    return participant.name
