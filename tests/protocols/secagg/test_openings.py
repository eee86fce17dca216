"""I-1: what members open follows from the certified set alone, and is never enough of both secrets of one institution."""

from __future__ import annotations

import pytest

from protocols.epoch import check_secret, open_recovery
from protocols.errors import DishonestMember
from protocols.secagg.opening import RECOVERY_SECRET, SELF_SEED
from protocols.shamir import combine_shares
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


def test_dropout_key_reused_across_rounds_opens_nothing() -> None:
    played = collect(slot=1)
    shares = opened(played, "dom", RECOVERY_SECRET)
    recovery = combine_shares(dict(enumerate(shares, 1)))
    setup, epoch = played.setup, played.cohort.epoch
    assert check_secret(setup.shares["dom"], 1, RECOVERY_SECRET, recovery)
    seeds = open_recovery(epoch, setup.confirmations["dom"], 1, recovery)
    assert seeds == {name: pair[1] for name, pair in played.states["dom"].pair_seeds.items()}
    with pytest.raises(DishonestMember, match="dom"):
        open_recovery(epoch, setup.confirmations["dom"], 0, recovery)
    assert not {pair[0] for pair in played.states["dom"].pair_seeds.values()} & set(seeds.values())
