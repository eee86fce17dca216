"""Withdraw: an institution leaves a run for good."""

from __future__ import annotations

from coordinator.service.served import Member, Resources, Served
from coordinator.withdrawals import take_withdrawal
from protocols.acceptance import Withdrawal
from protocols.service import WITHDRAW, KeptWithdrawal


def _withdraw(resources: Resources, caller: Member, request: Withdrawal) -> KeptWithdrawal:
    marked = take_withdrawal(resources.registry, request, caller.name)
    return KeptWithdrawal(tuple(f"{version.name} {version.version}" for version in marked))


WITHDRAWING = (Served(WITHDRAW, (Member,), _withdraw),)
