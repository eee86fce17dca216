"""What was agreed under former keys stays verifiable, whatever changed since; nothing else does."""

from __future__ import annotations

import tomllib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.epoch import SUITE, EpochManifest
from protocols.errors import ProtocolError, RosterError, SignatureError
from protocols.identity import Envelope, Identity, seal_envelope
from protocols.parties import Parties, parties_of, parties_toml
from protocols.roster import FormerKey, Roster, RosterEntry

OPERATOR = Identity("coordinator", b"o" * 32)


def key(number: int) -> bytes:
    return bytes([number]) * 32


def roster(keys: dict[str, int]) -> Roster:
    return Roster(tuple(RosterEntry(name, key(number)) for name, number in sorted(keys.items())))


def epoch_of(own: Roster) -> EpochManifest:
    members = own.names
    terms = EpochManifest("r1", 1, own.hash_of(members), members, len(members), 1, len(members), SUITE, 1, b"")
    return terms.signed_by(OPERATOR.sign)


@given(st.lists(st.sampled_from(["join", "rotate", "revoke"]), max_size=8), st.randoms(use_true_random=False))
def test_every_epoch_of_a_copys_past_is_checked_under_the_keys_of_its_day(changes: list[str], random: Random) -> None:
    keys, parties = {"ada": 1, "bea": 2, "cyd": 3}, Parties(roster({"ada": 1, "bea": 2, "cyd": 3}), OPERATOR.public_key)
    past = [(epoch_of(parties.roster), parties.roster)]
    for number, change in enumerate(changes, 4):
        name = random.choice(sorted(keys))
        if change == "revoke" and len(keys) > 3:
            del keys[name]
        elif change != "revoke":
            keys[name if change == "rotate" else f"new-{number}"] = number
        parties = parties.replaced_by(roster(keys), "2030-01-01")
        past.append((epoch_of(parties.roster), parties.roster))
    parties = parties_of(tomllib.loads(parties_toml(parties)))
    for epoch, then in past:
        assert parties.roster_of(epoch) == then
        epoch.check(parties.roster_of(epoch), OPERATOR.public_key)
        if not set(then.entries) <= set(parties.roster.entries):
            with pytest.raises(ProtocolError):
                epoch.check(parties.roster, OPERATOR.public_key)


def test_epoch_under_a_key_that_was_never_accepted_is_of_no_known_roster() -> None:
    parties = Parties(roster({"ada": 1, "bea": 2, "cyd": 3}), OPERATOR.public_key, (FormerKey("bea", key(9)),))
    strange = epoch_of(roster({"ada": 1, "bea": 8, "cyd": 3}))
    with pytest.raises(ProtocolError, match="another key"):
        strange.check(parties.roster_of(strange), OPERATOR.public_key)
    unknown = epoch_of(roster({"ada": 1, "bea": 2, "zoo": 3}))
    with pytest.raises(RosterError, match="zoo is not on this roster"):
        unknown.check(parties.roster_of(unknown), OPERATOR.public_key)


def test_envelopes_of_present_and_former_keys_open_and_no_other() -> None:
    old, new, other = (Identity("ada", bytes([number]) * 32) for number in (1, 2, 3))
    parties = Parties(Roster((RosterEntry("ada", new.public_key),)), OPERATOR.public_key, (FormerKey("ada", old.public_key),))
    envelope = Envelope("ada", "coordinator", "r1", 0, 0, "run/query.hello", b"", 1, b"")
    assert [parties.open_envelope(seal_envelope(one, envelope)) for one in (old, new)] == [envelope, envelope]
    with pytest.raises(SignatureError):
        parties.open_envelope(seal_envelope(other, envelope))
