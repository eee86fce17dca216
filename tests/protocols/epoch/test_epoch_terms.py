"""A member begins no epoch for another roster, under another's key, without it, or with members that are listed wrongly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.epoch import begin_epoch
from protocols.errors import ProtocolError
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
    ],
)
def test_an_epoch_of_other_terms_is_refused(change: dict[str, object], reason: str) -> None:
    cohort = Cohort()
    with pytest.raises(ProtocolError, match=reason):
        begin_epoch(replace(cohort.epoch, **change), cohort.identities["ada"], cohort.roster, cohort.randomness)  # type: ignore[arg-type]


def test_an_epoch_without_the_member_or_under_another_key_is_refused() -> None:
    cohort = Cohort()
    for identity in (cohort.identities[OUTSIDER], Identity.generate("ada", cohort.randomness)):
        with pytest.raises(ProtocolError, match=f"{identity.name} is not a member of this epoch under its own key"):
            begin_epoch(cohort.epoch, identity, cohort.roster, cohort.randomness)
