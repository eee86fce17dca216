"""A share or secret that does not fit its commitment is not used, and names who sent or dealt it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.epoch import SharesMessage
from protocols.errors import DishonestMember, TooFewSurvivors
from protocols.keys import commit
from protocols.secagg import UnmaskAnswer
from protocols.secagg.opening import RECOVERY_SECRET, SELF_SEED
from protocols.shamir import split_secret
from tests.protocols.secagg.cohort import MEMBERS, Cohort, Sum, collect, plain_sum, vectors, with_part


def wrong_answers(played: Sum) -> list[UnmaskAnswer]:
    """Answers of bio that hold something else than the share that is asked for."""
    good, state = played.answers()["bio"], played.states["bio"]
    wrong = [bytes(33), b"", state.share("cor", 0, SELF_SEED), state.share("ada", 1, SELF_SEED), state.share("ada", 0, RECOVERY_SECRET)]
    return [replace(good, self_seeds={**good.self_seeds, "ada": share}) for share in wrong]


def test_a_wrong_share_names_its_sender_when_too_few_are_left() -> None:
    played = collect()
    for answer in wrong_answers(played):
        with pytest.raises(TooFewSurvivors, match="2 correct shares for ada came and 3 are needed; bio sent a wrong share"):
            played.total(played.answers() | {"bio": answer})


def test_a_wrong_share_is_left_out_when_enough_are_left() -> None:
    played = collect(MEMBERS)
    for answer in wrong_answers(played):
        assert np.array_equal(played.total(played.answers() | {"bio": answer}), plain_sum(vectors(4)))


def test_a_wrong_share_of_a_dropout_names_its_sender() -> None:
    played = collect()
    answer = replace(played.answers()["bio"], recovery_secrets={"dom": played.states["bio"].share("dom", 0, SELF_SEED)})
    with pytest.raises(TooFewSurvivors, match="correct shares for dom came and 3 are needed; bio sent a wrong share"):
        played.total(played.answers() | {"bio": answer})


def committed_to_another_secret(dealer: str, secret: int) -> Cohort:
    """A cohort whose dealer signed commitments to other secrets of slot 0 than it shares."""
    cohort = Cohort()
    message = cohort.shares[dealer]
    commitments = bytearray(message.header.commitments)
    commitments[32 * secret] ^= 1
    cohort.dealt_instead(replace(message, header=replace(message.header, commitments=bytes(commitments))))
    return cohort


@pytest.mark.parametrize(("dealer", "secret"), [("ada", SELF_SEED), ("dom", RECOVERY_SECRET)])
def test_shares_of_another_secret_than_the_committed_one_name_the_dealer(dealer: str, secret: int) -> None:
    played = collect(cohort=committed_to_another_secret(dealer, secret))
    with pytest.raises(DishonestMember, match=f"{dealer} dealt shares of another secret"):
        played.total(played.answers())


def with_shares(message: SharesMessage, shares: list[bytes]) -> SharesMessage:
    """The message committed to other shares of the first slot's self seed."""
    for number, share in enumerate(shares, 1):
        message = with_part(message, number, commitments=commit("share", share) + message.parts[number - 1].commitments[32:])
    return message


def test_shares_of_something_longer_than_a_secret_name_the_dealer() -> None:
    played = collect()
    shares = split_secret((2**256 + 5).to_bytes(33, "big"), 3, 4, played.cohort.randomness)
    setup = replace(played.setup, shares={**played.setup.shares, "ada": with_shares(played.setup.shares["ada"], shares)})
    answers = {
        name: replace(answer, self_seeds={**answer.self_seeds, "ada": shares[number]})
        for number, (name, answer) in enumerate(played.answers().items())
    }
    with pytest.raises(DishonestMember, match="ada dealt shares of another secret"):
        replace(played, setup=setup).total(answers)


def test_an_envelope_that_does_not_open_names_who_published_it() -> None:
    played = collect()
    confirmations = played.setup.confirmations
    first, second = confirmations["dom"].envelopes
    for envelope in (second, first[:-1], b"", bytes([first[0] ^ 1]) + first[1:], confirmations["cor"].envelopes[0]):
        changed = replace(confirmations["dom"], envelopes=(envelope, second))
        setup = replace(played.setup, confirmations={**confirmations, "dom": changed})
        with pytest.raises(DishonestMember, match="dom published an envelope"):
            replace(played, setup=setup).total(played.answers())
