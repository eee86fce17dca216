"""Every byte of a setup message is its sender's: one altered on the way is refused, and nobody is blamed for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest

from protocols.epoch import KeysMessage, SharesMessage, begin_epoch, confirm_epoch, deal_shares
from protocols.errors import ProtocolError, SignatureError
from tests.protocols.secagg.cohort import OUTSIDER, Cohort

AnyMessage = TypeVar("AnyMessage", KeysMessage, SharesMessage)


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def altered(message: AnyMessage, field: str) -> AnyMessage:
    """The message with the last bit of a field, or of bio's part of it, flipped."""
    content = getattr(message, field)
    changed = flipped(content) if isinstance(content, bytes) else {**content, "bio": flipped(content["bio"])}
    return replace(message, **{field: changed})  # type: ignore[arg-type]


def deal(cohort: Cohort, keys: dict[str, KeysMessage]) -> None:
    deal_shares(cohort.begun["bio"][0], keys, cohort.randomness, cohort.identities["bio"])


def confirm(cohort: Cohort, shares: dict[str, SharesMessage]) -> None:
    confirm_epoch(cohort.dealt["bio"][0], shares, cohort.identities["bio"])


@pytest.mark.parametrize("field", ["x25519", "mlkem", "signature"])
def test_altered_keys_are_refused(field: str) -> None:
    cohort = Cohort()
    with pytest.raises(SignatureError, match="ada"):
        deal(cohort, cohort.keys | {"ada": altered(cohort.keys["ada"], field)})


@pytest.mark.parametrize("field", ["keys_hash", "ciphertexts", "sealed", "commitments", "share_commitments", "signature"])
def test_altered_shares_are_refused(field: str) -> None:
    cohort = Cohort()
    with pytest.raises(SignatureError, match="ada"):
        confirm(cohort, cohort.shares | {"ada": altered(cohort.shares["ada"], field)})


@pytest.mark.parametrize("field", ["commitments", "share_commitments"])
def test_shares_cut_short_on_the_way_do_not_blame_their_sender(field: str) -> None:
    cohort = Cohort()
    cut = replace(cohort.shares["ada"], **{field: b""})  # type: ignore[arg-type]
    with pytest.raises(SignatureError, match="ada"):
        confirm(cohort, cohort.shares | {"ada": cut})


def test_a_message_in_another_s_name_is_refused() -> None:
    cohort, ada = Cohort(), Cohort().identities["ada"]
    # The second of each is ada's own, signed by ada: what is wrong in it must not be held against cor.
    keys, shares = replace(cohort.keys["ada"], sender="cor"), replace(cohort.shares["ada"], sender="cor")
    for other_keys in (cohort.keys["cor"], replace(keys, signature=ada.sign(keys.signed()))):
        with pytest.raises(ProtocolError, match="relayed as those of ada are for another sender"):
            deal(cohort, cohort.keys | {"ada": other_keys})
    for other_shares in (cohort.shares["cor"], replace(shares, signature=ada.sign(shares.signed()))):
        with pytest.raises(ProtocolError, match="relayed as those of ada are for another sender"):
            confirm(cohort, cohort.shares | {"ada": other_shares})


def test_messages_of_another_epoch_are_refused() -> None:
    cohort, epoch = Cohort(), replace(Cohort().epoch, epoch=2)
    begun = {n: begin_epoch(epoch, cohort.identities[n], cohort.roster, cohort.randomness) for n in epoch.members}
    keys = {name: message for name, (_, message) in begun.items()}
    _, shares = deal_shares(begun["ada"][0], keys, cohort.randomness, cohort.identities["ada"])
    with pytest.raises(ProtocolError, match="relayed as those of ada are for another sender or epoch"):
        deal(cohort, cohort.keys | {"ada": keys["ada"]})
    with pytest.raises(ProtocolError, match="relayed as those of ada are for another sender, epoch"):
        confirm(cohort, cohort.shares | {"ada": shares})


def test_messages_of_others_than_exactly_the_members_are_refused() -> None:
    cohort = Cohort()
    keys, shares = cohort.keys, cohort.shares
    for others in ({n: m for n, m in keys.items() if n != "dom"}, keys | {OUTSIDER: keys["ada"]}):
        with pytest.raises(ProtocolError, match="not those of exactly the members"):
            deal(cohort, others)
    for swapped in ({n: m for n, m in shares.items() if n != "dom"}, shares | {OUTSIDER: shares["ada"]}):
        with pytest.raises(ProtocolError, match="not those of exactly the members"):
            confirm(cohort, swapped)
