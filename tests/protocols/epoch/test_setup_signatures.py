"""Every byte of a setup message is its sender's: one altered on the way is refused, and nobody is blamed for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest

from protocols.epoch import KeysMessage, RelayedShares, confirm_epoch, deal_shares
from protocols.epoch.messages import SharesHeader, SharesPart
from protocols.errors import DishonestMember, ProtocolError, SignatureError
from tests.protocols.secagg.cohort import OUTSIDER, Cohort

AnyMessage = TypeVar("AnyMessage", KeysMessage, SharesHeader, SharesPart)


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def altered(message: AnyMessage, field: str) -> AnyMessage:
    """The message with the last bit of a field flipped, or a number raised by one."""
    content = getattr(message, field)
    return replace(message, **{field: content + 1 if isinstance(content, int) else flipped(content)})  # type: ignore[arg-type]


def deal(cohort: Cohort, keys: dict[str, KeysMessage]) -> None:
    deal_shares(cohort.begun["bio"][0], keys, cohort.randomness, cohort.identities["bio"])


def confirm(cohort: Cohort, **changed: RelayedShares) -> None:
    confirm_epoch(cohort.dealt["bio"][0], cohort.relayed("bio") | changed, cohort.identities["bio"])


@pytest.mark.parametrize("field", ["incarnation", "x25519", "mlkem", "signature"])
def test_altered_keys_are_refused(field: str) -> None:
    cohort = Cohort()
    with pytest.raises(SignatureError, match="ada"):
        deal(cohort, cohort.keys | {"ada": altered(cohort.keys["ada"], field)})


@pytest.mark.parametrize("field", ["incarnation", "keys_hash", "commitments", "part_hashes", "signature"])
def test_altered_headers_are_refused(field: str) -> None:
    cohort = Cohort()
    shown = cohort.relayed("bio")["ada"]
    with pytest.raises(SignatureError, match="ada"):
        confirm(cohort, ada=replace(shown, header=altered(shown.header, field)))


@pytest.mark.parametrize("field", ["ciphertext", "sealed", "commitments"])
def test_altered_parts_are_refused_and_do_not_blame_their_dealer(field: str) -> None:
    cohort = Cohort()
    shown = cohort.relayed("bio")["ada"]
    for part in (altered(shown.part, field), replace(shown.part, **{field: b""}), cohort.relayed("cor")["ada"].part):
        with pytest.raises(ProtocolError, match="from ada to bio are not those that ada signed") as raised:
            confirm(cohort, ada=replace(shown, part=part))
        assert not isinstance(raised.value, DishonestMember)


@pytest.mark.parametrize("field", ["commitments", "part_hashes"])
def test_headers_cut_short_on_the_way_do_not_blame_their_sender(field: str) -> None:
    cohort = Cohort()
    shown = cohort.relayed("bio")["ada"]
    with pytest.raises(SignatureError, match="ada"):
        confirm(cohort, ada=replace(shown, header=replace(shown.header, **{field: b""})))  # type: ignore[arg-type]


def test_a_message_in_another_s_name_is_refused() -> None:
    cohort, ada = Cohort(), Cohort().identities["ada"]
    # The second of each is ada's own, signed by ada: what is wrong in it must not be held against cor.
    keys, shown = replace(cohort.keys["ada"], sender="cor"), cohort.relayed("bio")
    header = replace(shown["ada"].header, sender="cor").signed_by(ada.sign)
    for other_keys in (cohort.keys["cor"], keys.signed_by(ada.sign)):
        with pytest.raises(ProtocolError, match="relayed as those of ada are for another sender"):
            deal(cohort, cohort.keys | {"ada": other_keys})
    for other_shares in (shown["cor"], replace(shown["ada"], header=header)):
        with pytest.raises(ProtocolError, match="relayed as those of ada are for another sender"):
            confirm(cohort, ada=other_shares)


def test_messages_of_another_epoch_are_refused() -> None:
    cohort = Cohort()
    begun = {name: cohort.begin(name, epoch=2) for name in cohort.epoch.members}
    keys = {name: message for name, (_, message) in begun.items()}
    _, shares = deal_shares(begun["ada"][0], keys, cohort.randomness, cohort.identities["ada"])
    with pytest.raises(ProtocolError, match="relayed as those of ada are for another sender or epoch"):
        deal(cohort, cohort.keys | {"ada": keys["ada"]})
    with pytest.raises(ProtocolError, match="relayed as those of ada are for another sender or epoch"):
        confirm(cohort, ada=shares.relayed(2))


def test_messages_of_others_than_exactly_the_members_are_refused() -> None:
    cohort = Cohort()
    keys, shown = cohort.keys, cohort.relayed("bio")
    for others in ({n: m for n, m in keys.items() if n != "dom"}, keys | {OUTSIDER: keys["ada"]}):
        with pytest.raises(ProtocolError, match="not those of exactly the members"):
            deal(cohort, others)
    for swapped in ({n: m for n, m in shown.items() if n != "dom"}, shown | {OUTSIDER: shown["ada"]}):
        with pytest.raises(ProtocolError, match="not those of exactly the members"):
            confirm_epoch(cohort.dealt["bio"][0], swapped, cohort.identities["bio"])
