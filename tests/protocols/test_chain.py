"""Extensions of the event chain: exactly the digests in between lead from one head to a later one."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.chain import GENESIS, ChainHead, check_extension, event_digest, extend, link
from protocols.errors import ChainError

EVENTS = st.lists(st.binary(max_size=8), min_size=1, max_size=6)


def heads(events: list[bytes]) -> list[ChainHead]:
    """The head after each event, the empty chain's first."""
    made = [ChainHead(0, GENESIS)]
    for number, event in enumerate(events, 1):
        made.append(ChainHead(number, link(made[-1].hash, event)))
    return made


def test_link_is_over_the_digest() -> None:
    digest = hashlib.sha256(b"event").digest()
    assert link(GENESIS, b"event") == hashlib.sha256(b"consortium event chain 2\0" + GENESIS + digest).digest()


@given(EVENTS, st.data())
def test_digests_in_between_show_an_extension_and_nothing_else_does(events: list[bytes], data: st.DataObject) -> None:
    all_heads = heads(events)
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(events)), st.integers(0, len(events)))))
    shown = b"".join(event_digest(event) for event in events[start:end])
    check_extension(all_heads[start], shown, all_heads[end])
    assert extend(all_heads[start].hash, shown) == all_heads[end].hash
    others = [shown + bytes(32), shown[1:] or b"x", shown[32:] or bytes(32)]
    if shown:
        place = data.draw(st.integers(0, len(shown) - 1))
        others.append(shown[:place] + bytes([shown[place] ^ 1]) + shown[place + 1 :])
    for other in others:
        with pytest.raises(ChainError):
            check_extension(all_heads[start], other, all_heads[end])


def test_shorter_chain_and_fork_are_no_extension() -> None:
    first, second = heads([b"a", b"b", b"c"]), heads([b"a", b"x", b"c"])
    with pytest.raises(ChainError, match="1 events is not shown to extend the one of 2"):
        check_extension(first[2], b"", first[1])
    with pytest.raises(ChainError):
        check_extension(first[2], event_digest(b"c"), second[3])
    with pytest.raises(ChainError, match="32 bytes"):
        extend(b"short", b"")
