"""What an institution signs about a run: that it accepts plan and terms of use, or that it withdraws."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from protocols.codec import SignedMessage
from protocols.errors import Refusal
from protocols.identity import verify
from protocols.plan import Plan

_LONGEST_MOMENT = 40  # characters of a time


@dataclass(frozen=True)
class Acceptance(SignedMessage):
    """An institution takes part in a run, on the terms of exactly this plan and this text.

    Hashes are SHA-256 in hexadecimal, that of the terms empty where the plan names none; `at` is in UTC, ISO 8601.
    """

    run: str
    plan_sha256: str
    terms_sha256: str
    institution: str
    at: str
    signature: bytes = b""

    def check(self, run: str, plan: Plan, institution: str, public_key: bytes) -> None:
        """Raises SignatureError or Refusal unless the institution signed that it accepts this plan for this run."""
        verify(public_key, self.signed(), self.signature, institution)
        if not _is_moment(self.at):  # it is shown to people, and kept for good
            raise Refusal(f"{institution} signed an acceptance that names no time; both sides must run the same version")
        about = (self.run, self.plan_sha256, self.terms_sha256, self.institution)
        if about != (run, plan.sha256, plan.terms_sha256, institution):
            raise Refusal(f"{institution} signed an acceptance of another run, plan or text of terms; it must be asked again")


@dataclass(frozen=True)
class Withdrawal(SignedMessage):
    """An institution takes no further part in a run; `at` is in UTC, ISO 8601."""

    run: str
    institution: str
    reason: str
    at: str
    signature: bytes = b""

    def check(self, institution: str, public_key: bytes) -> None:
        """Raises SignatureError or Refusal unless it is the institution's own."""
        verify(public_key, self.signed(), self.signature, institution)
        if self.institution != institution:
            raise Refusal(f"this withdrawal is that of {self.institution}, not of {institution}; each institution sends its own")


def _is_moment(text: str) -> bool:
    try:
        return len(text) <= _LONGEST_MOMENT and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def is_text_of(plan: Plan, text: bytes) -> bool:
    """Whether these are the terms of use that the plan names by hash."""
    return hashlib.sha256(text).hexdigest() == plan.terms_sha256
