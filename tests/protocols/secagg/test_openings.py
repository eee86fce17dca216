"""I-1: what members open follows from the certified set alone, and is never enough of both secrets of one institution."""

from __future__ import annotations

import pytest

from protocols.secagg.opening import RECOVERY_SECRET, SELF_SEED
from tests.protocols.secagg.cohort import MEMBERS, Sum, collect


def opened(played: Sum, dealer: str, secret: int) -> list[bytes]:
    """The shares of a secret that the answers hold."""
    given = [a.self_seeds if secret == SELF_SEED else a.recovery_secrets for a in played.answers().values()]
    return [shares[dealer] for shares in given if dealer in shares]


@pytest.mark.parametrize("names", [MEMBERS, *(tuple(n for n in MEMBERS if n != gone) for gone in MEMBERS)])
def test_never_both_secrets_of_one_institution_are_opened(names: tuple[str, ...]) -> None:
    played = collect(names)
    for dealer in MEMBERS:
        counts = (len(opened(played, dealer, SELF_SEED)), len(opened(played, dealer, RECOVERY_SECRET)))
        assert counts == ((len(names), 0) if dealer in names else (0, len(names)))
