"""A member begins no epoch for another roster, under another's key, without it, or with members that are listed wrongly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.epoch import begin_epoch
from protocols.errors import ProtocolError, SignatureError
from protocols.identity import Identity
from tests.protocols.secagg.cohort import OUTSIDER, Cohort


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"roster_hash": bytes(32)}, "another roster"),
        ({"members": ("bio", "ada", "cor", "dom")}, "different names in order"),
        ({"members": ("ada", "ada", "bio", "cor")}, "different names in order"),
        ({"members": ("ada", "bio", "cor"), "n": 4}, "must be 4 different names"),
        ({"slots": 0}, "it has 1 to 256"),
        ({"slots": 257}, "it has 1 to 256"),
        ({"suite": "SA-0"}, "suite SA-0 is not one of SA-1, SA-1-X25519"),
    ],
)
def test_an_epoch_of_other_terms_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        Cohort().begin("ada", **change)


def test_an_epoch_without_the_member_or_under_another_key_is_refused() -> None:
    cohort = Cohort()
    for identity in (cohort.identities[OUTSIDER], Identity.generate("ada", cohort.randomness)):
        with pytest.raises(ProtocolError, match=f"{identity.name} is not a member of this epoch under its own key"):
            begin_epoch(cohort.epoch, identity, cohort.roster, cohort.coordinator.public_key, cohort.randomness)


def test_terms_that_the_coordinator_did_not_sign_are_refused() -> None:
    cohort = Cohort()
    for altered in (replace(cohort.epoch, slots=1), replace(cohort.epoch, signature=cohort.identities["bio"].sign(cohort.epoch.signed()))):
        with pytest.raises(SignatureError, match="not that of the coordinator"):
            begin_epoch(altered, cohort.identities["ada"], cohort.roster, cohort.coordinator.public_key, cohort.randomness)


def test_the_signature_of_the_terms_is_in_every_hash_of_them() -> None:
    cohort = Cohort()
    assert replace(cohort.epoch, signature=bytes(64)).hash != cohort.epoch.hash


@pytest.mark.parametrize("field", ["x25519", "mlkem"])
def test_each_suite_has_the_keys_that_it_names(field: str) -> None:
    sizes = {suite: len(getattr(Cohort(suite=suite).keys["ada"], field)) for suite in ("SA-1", "SA-1-X25519")}
    assert sizes == {"x25519": {"SA-1": 32, "SA-1-X25519": 32}, "mlkem": {"SA-1": 1184, "SA-1-X25519": 0}}[field]


def test_the_same_randomness_gives_other_seeds_in_another_suite_and_pairs_agree_in_both() -> None:
    seeds = []
    for suite in ("SA-1", "SA-1-X25519"):
        states, _ = Cohort(suite=suite).certified()
        assert states["ada"].pair_seeds["bio"] == states["bio"].pair_seeds["ada"]
        seeds.append(states["ada"].pair_seeds["bio"])
    assert not set(seeds[0]) & set(seeds[1])
