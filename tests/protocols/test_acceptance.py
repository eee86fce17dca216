"""What an institution signs about a run says which one, and holds for no other."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from protocols.acceptance import Acceptance, Withdrawal, is_text_of
from protocols.errors import Refusal, SignatureError
from protocols.identity import Identity
from protocols.plan import parse_plan

TERMS = b"nothing leaves the house"
PLAN = parse_plan({"name": "triage", "base": "tiny", "records": {"prompt": "{a}", "target": "{b}"}}, "plan.toml").model_copy(
    update={"terms_sha256": hashlib.sha256(TERMS).hexdigest()}
)
ADA = Identity("ada", bytes(32))
ACCEPTED = Acceptance("r1", PLAN.sha256, PLAN.terms_sha256, "ada", "2030-01-01T00:00:00+00:00").signed_by(ADA.sign)
WITHDRAWN = Withdrawal("r1", "ada", "the board said so", "2030-01-01T00:00:00+00:00").signed_by(ADA.sign)


def test_a_signed_acceptance_holds_for_its_run_plan_and_institution() -> None:
    Acceptance.from_bytes(ACCEPTED.to_bytes()).check("r1", PLAN, "ada", ADA.public_key)


@pytest.mark.parametrize("changed", ["run", "plan_sha256", "terms_sha256", "institution", "at"])
def test_an_altered_acceptance_is_not_signed(changed: str) -> None:
    changes: dict[str, Any] = {changed: "other"}
    with pytest.raises(SignatureError):
        replace(ACCEPTED, **changes).check("r1", PLAN, "ada", ADA.public_key)


def test_an_acceptance_of_other_terms_run_or_institution_is_none() -> None:
    for run, plan, name in (("r2", PLAN, "ada"), ("r1", PLAN.model_copy(update={"terms_sha256": ""}), "ada"), ("r1", PLAN, "bea")):
        with pytest.raises(Refusal, match="another run, plan or text"):
            ACCEPTED.check(run, plan, name, ADA.public_key)


def test_a_withdrawal_is_the_institutions_own() -> None:
    Withdrawal.from_bytes(WITHDRAWN.to_bytes()).check("ada", ADA.public_key)
    with pytest.raises(Refusal, match="that of ada, not of bea"):
        WITHDRAWN.check("bea", ADA.public_key)
    with pytest.raises(SignatureError):
        replace(WITHDRAWN, run="r2").check("ada", ADA.public_key)


def test_no_acceptance_is_a_withdrawal_of_the_same_words() -> None:
    assert ACCEPTED.signed() != WITHDRAWN.signed()
    assert ACCEPTED.signed().startswith(b"consortium signed Acceptance 1\0")


def test_the_text_is_compared_byte_by_byte() -> None:
    assert is_text_of(PLAN, TERMS)
    assert not is_text_of(PLAN, TERMS + b"\n")
