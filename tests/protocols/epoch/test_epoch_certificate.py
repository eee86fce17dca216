"""An epoch is usable only when all of its members, and nobody else, signed one and the same setup of exactly this epoch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.epoch import Confirmation, EpochCertificate, verify_epoch
from protocols.errors import ProtocolError, SignatureError
from tests.protocols.secagg.cohort import MEMBERS, OUTSIDER, Cohort


def check_refused(cohort: Cohort, certificate: EpochCertificate, error: type[ProtocolError], reason: str) -> None:
    with pytest.raises(error, match=reason):
        verify_epoch(certificate, cohort.epoch, cohort.roster, cohort.coordinator.public_key)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_missing_or_forged_signature_is_refused(name: str) -> None:
    cohort = Cohort()
    _, good = cohort.certified()
    verify_epoch(good, cohort.epoch, cohort.roster, cohort.coordinator.public_key)
    others = {n: s for n, s in good.signatures.items() if n != name}
    check_refused(cohort, replace(good, signatures=others), ProtocolError, "exactly the members")
    another = next(iter(others.values()))
    for forged in (bytes(64), b"", another):
        check_refused(cohort, replace(good, signatures=others | {name: forged}), SignatureError, f"not that of {name}")


def test_a_signature_too_many_is_refused() -> None:
    cohort = Cohort()
    _, good = cohort.certified()
    for name in (OUTSIDER, "zoo"):
        check_refused(cohort, replace(good, signatures={**good.signatures, name: bytes(64)}), ProtocolError, "exactly the members")
        check_refused(cohort, replace(good, published={**good.published, name: bytes(32)}), ProtocolError, "exactly the members")


def test_a_certificate_says_what_each_member_published() -> None:
    cohort = Cohort()
    _, good = cohort.certified()
    swapped = {**good.published, "ada": good.published["bio"]}
    check_refused(cohort, replace(good, published=swapped), SignatureError, "not that of ada")
    missing = {name: hashed for name, hashed in good.published.items() if name != "ada"}
    check_refused(cohort, replace(good, published=missing), ProtocolError, "exactly the members")


def test_a_certificate_of_terms_that_the_coordinator_did_not_sign_is_refused() -> None:
    cohort = Cohort()
    _, good = cohort.certified()
    with pytest.raises(SignatureError, match="not that of the coordinator"):
        verify_epoch(good, cohort.epoch, cohort.roster, cohort.identities["bio"].public_key)


def test_signatures_hold_for_their_own_setup_and_epoch_alone() -> None:
    cohort, other = Cohort(), Cohort(slots=3)
    _, good = cohort.certified()
    _, elsewhere = other.certified()
    check_refused(cohort, replace(good, setup_hash=elsewhere.setup_hash), SignatureError, "not that of ada")
    check_refused(cohort, elsewhere, ProtocolError, "exactly the members of this epoch")
    check_refused(cohort, replace(elsewhere, epoch_hash=cohort.epoch.hash), SignatureError, "not that of ada")


def confirmations(cohort: Cohort) -> dict[str, Confirmation]:
    return {name: confirmation for name, (_, confirmation) in cohort.confirmed().items()}


def check_not_certified(cohort: Cohort, given: dict[str, Confirmation], error: type[ProtocolError], reason: str) -> None:
    with pytest.raises(error, match=reason):
        cohort.certify(given)


@pytest.mark.parametrize("name", MEMBERS)
def test_who_did_not_confirm_this_setup_is_named(name: str) -> None:
    cohort = Cohort()
    good = confirmations(cohort)
    check_not_certified(cohort, {n: c for n, c in good.items() if n != name}, ProtocolError, f"{name} did not confirm")
    for changed in (replace(good[name], setup_hash=bytes(32)), replace(good[name], envelopes=good[name].envelopes[:1])):
        check_not_certified(cohort, good | {name: changed}, ProtocolError, f"{name} did not confirm")


@pytest.mark.parametrize("name", MEMBERS)
def test_altered_confirmations_are_refused(name: str) -> None:
    cohort = Cohort()
    good = confirmations(cohort)
    first, second = good[name].envelopes
    changes = (
        replace(good[name], envelopes=(second, first)),
        replace(good[name], rows=good[name].rows[::-1]),
        replace(good[name], rows=good[name].rows[:1]),
        replace(good[name], incarnation=2),
        replace(good[name], signature=bytes(64)),
    )
    for changed in changes:
        check_not_certified(cohort, good | {name: changed}, SignatureError, f"not that of {name}")
