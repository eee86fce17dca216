"""Shares of every secret of every slot: checked one by one, worthless below the threshold, and worth the secret from there on."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from protocols.epoch import SharesMessage, check_secret, confirm_epoch, read_shares
from protocols.epoch.channel import seal
from protocols.errors import DishonestMember, ProtocolError
from protocols.shamir import SHARE_BYTES, combine_shares
from tests.protocols.secagg.cohort import MEMBERS, Cohort, with_part

BIO = 2  # its number
EVERY_SHARE = list(itertools.product((0, 1), (0, 1)))  # slot, secret


def check_refused(cohort: Cohort, message: SharesMessage, reason: str) -> None:
    """Confirming fails for bio when ada deals `message`."""
    shares = cohort.relayed("bio") | {"ada": cohort.signed(message).relayed(2)}
    with pytest.raises(DishonestMember, match=reason):
        confirm_epoch(cohort.dealt["bio"][0], shares, cohort.identities["bio"])


@pytest.mark.parametrize(("slot", "secret"), EVERY_SHARE)
def test_one_uncommitted_share_names_its_dealer(slot: int, secret: int) -> None:
    cohort = Cohort()
    commitments = bytearray(cohort.shares["ada"].parts[BIO - 1].commitments)
    commitments[32 * (2 * slot + secret)] ^= 1
    message = with_part(cohort.shares["ada"], BIO, commitments=bytes(commitments))
    check_refused(cohort, message, "ada dealt a share that it did not commit to")


def test_missing_commitments_name_the_dealer() -> None:
    cohort = Cohort()
    message = cohort.shares["ada"]
    of_secrets, of_shares = message.header.commitments, message.parts[BIO - 1].commitments
    for changed in (of_secrets[:-32], of_secrets + bytes(32)):
        header = replace(message.header, commitments=changed)
        check_refused(cohort, replace(message, header=header), "ada did not commit to every secret and part")
    for changed in (of_shares[:-32], of_shares + bytes(32)):
        check_refused(cohort, with_part(message, BIO, commitments=changed), "ada did not commit to every share")
    check_refused(cohort, replace(message, parts=message.parts[:3]), "ada did not commit to every secret and part")


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_coordinator_refuses_a_part_that_the_header_does_not_bind(number: int) -> None:
    cohort = Cohort()
    for field in ("ciphertext", "sealed", "commitments"):
        message = with_part(cohort.shares["ada"], number, **{field: b"other"})
        with pytest.raises(DishonestMember, match="ada dealt other shares than its header says"):
            read_shares(cohort.epoch, cohort.roster, cohort.keys, "ada", message.to_bytes())
    signed = cohort.signed(with_part(cohort.shares["ada"], number, commitments=b"other"))
    with pytest.raises(DishonestMember, match="ada did not commit to every share"):
        read_shares(cohort.epoch, cohort.roster, cohort.keys, "ada", signed.to_bytes())


def test_what_is_relayed_to_a_member_holds_nothing_for_another() -> None:
    message = Cohort().shares["ada"]
    relayed = message.relayed(BIO).to_bytes()
    assert message.parts[BIO - 1].sealed in relayed
    assert not any(content in relayed for part in message.parts[BIO:] for content in (part.ciphertext, part.sealed, part.commitments))


def test_shares_for_too_few_slots_name_their_dealer() -> None:
    cohort = Cohort()
    state, message = cohort.dealt["ada"]
    secret = state.agreed["bio"] + state.kem_secrets["bio"]
    for size in (0, 2 * SHARE_BYTES, 5 * SHARE_BYTES):
        sealed = seal(secret, cohort.epoch, "ada", "bio", bytes(size))
        check_refused(cohort, with_part(message, BIO, sealed=sealed), "ada dealt shares of a wrong length")


def test_what_does_not_open_names_its_sender() -> None:
    cohort = Cohort()
    _, to_bio, to_cor, _ = (part.sealed for part in cohort.shares["ada"].parts)
    for content in (b"", bytes(15), to_cor, to_bio[:-1], cohort.shares["bio"].parts[0].sealed):
        check_refused(cohort, with_part(cohort.shares["ada"], BIO, sealed=content), "ada sealed shares that do not open")


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
