"""Shares of every secret of every slot: checked one by one, worthless below the threshold, and worth the secret from there on."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from protocols.epoch import SharesMessage, check_secret, confirm_epoch
from protocols.epoch.channel import agree, seal
from protocols.errors import DishonestMember, ProtocolError
from protocols.shamir import SHARE_BYTES, combine_shares
from tests.protocols.secagg.cohort import MEMBERS, Cohort

EVERY_SHARE = list(itertools.product((0, 1), (0, 1)))  # slot, secret


def check_refused(cohort: Cohort, message: SharesMessage, reason: str) -> None:
    """Confirming fails for bio when ada deals `message`."""
    shares = cohort.shares | {"ada": cohort.signed(message)}
    with pytest.raises(DishonestMember, match=reason):
        confirm_epoch(cohort.dealt["bio"][0], shares, cohort.identities["bio"])


@pytest.mark.parametrize(("slot", "secret"), EVERY_SHARE)
def test_one_uncommitted_share_names_its_dealer(slot: int, secret: int) -> None:
    cohort, number = Cohort(), 2  # of bio
    commitments = bytearray(cohort.shares["ada"].share_commitments)
    commitments[32 * (2 * (slot * 4 + number - 1) + secret)] ^= 1
    message = replace(cohort.shares["ada"], share_commitments=bytes(commitments))
    check_refused(cohort, message, "ada dealt a share that it did not commit to")


@pytest.mark.parametrize("field", ["commitments", "share_commitments"])
def test_missing_commitments_name_the_dealer(field: str) -> None:
    cohort = Cohort()
    content: bytes = getattr(cohort.shares["ada"], field)
    for changed in (content[:-32], content + bytes(32)):
        message = replace(cohort.shares["ada"], **{field: changed})  # type: ignore[arg-type]
        check_refused(cohort, message, "ada did not commit to every secret and share")


def test_shares_for_too_few_slots_name_their_dealer() -> None:
    cohort = Cohort()
    state, message = cohort.dealt["ada"]
    secret = agree(state.keys.seed, cohort.keys["bio"]) + state.kem_secrets["bio"]
    for size in (0, 2 * SHARE_BYTES, 5 * SHARE_BYTES):
        sealed = {**message.sealed, "bio": seal(secret, cohort.epoch, "ada", "bio", bytes(size))}
        check_refused(cohort, replace(message, sealed=sealed), "ada dealt shares of a wrong length")


def test_what_does_not_open_names_its_sender() -> None:
    cohort = Cohort()
    sealed = cohort.shares["ada"].sealed
    for content in (b"", bytes(15), sealed["cor"], sealed["bio"][:-1], cohort.shares["bio"].sealed["ada"]):
        check_refused(cohort, replace(cohort.shares["ada"], sealed={**sealed, "bio": content}), "ada sealed shares that do not open")


@pytest.mark.parametrize("dealer", MEMBERS)
@pytest.mark.parametrize(("slot", "secret"), EVERY_SHARE)
def test_exactly_from_the_threshold_on_shares_give_the_secret(dealer: str, slot: int, secret: int) -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    held = {cohort.epoch.number(name): state.share(dealer, slot, secret) for name, state in states.items()}
    for count in (2, 3, 4):
        for numbers in itertools.combinations(held, count):
            opens = opened(cohort, dealer, slot, secret, {number: held[number] for number in numbers})
            assert opens == (count >= cohort.epoch.threshold)


def opened(cohort: Cohort, dealer: str, slot: int, secret: int, shares: dict[int, bytes]) -> bool:
    try:
        return check_secret(cohort.shares[dealer], slot, secret, combine_shares(shares))
    except ProtocolError:
        return False
