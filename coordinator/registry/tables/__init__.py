"""The tables; importing them here declares every one of them."""

from coordinator.registry.tables.base import Base, UtcDateTime
from coordinator.registry.tables.consent import AnswerRow, WithdrawalRow
from coordinator.registry.tables.events import ChainHeadRow, EventRow, LeaseRow
from coordinator.registry.tables.parties import InvitationRow, JoinRequestRow, ParticipantRow, RotationRow, VoucherRow
from coordinator.registry.tables.runs import ContributionRow, ModelVersionRow, PrivacySpendRow, RoundRow, RunRow

__all__ = [
    "AnswerRow",
    "Base",
    "ChainHeadRow",
    "ContributionRow",
    "EventRow",
    "InvitationRow",
    "JoinRequestRow",
    "LeaseRow",
    "ModelVersionRow",
    "ParticipantRow",
    "PrivacySpendRow",
    "RotationRow",
    "RoundRow",
    "RunRow",
    "UtcDateTime",
    "VoucherRow",
    "WithdrawalRow",
]
