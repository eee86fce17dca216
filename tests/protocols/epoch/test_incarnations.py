"""A setup in which a member goes on with another ledger than it began with is refused by everyone who sees both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.epoch import confirm_epoch, deal_shares, read_shares
from protocols.epoch.checks import certified
from protocols.errors import ProtocolError
from tests.protocols.secagg.cohort import Cohort

RESTORED = "ada began this epoch with incarnation 1 of its ledger and goes on with 2; begin a new epoch"


def test_a_member_goes_on_with_no_other_ledger_than_it_began_with() -> None:
    cohort = Cohort()
    ada = cohort.identities["ada"]
    with pytest.raises(ProtocolError, match=RESTORED):
        deal_shares(cohort.begun["ada"][0], cohort.keys, cohort.randomness, ada, incarnation=2)
    with pytest.raises(ProtocolError, match=RESTORED):
        confirm_epoch(cohort.dealt["ada"][0], cohort.relayed("ada"), ada, incarnation=2)


def test_members_and_coordinator_refuse_shares_of_another_incarnation_than_the_keys() -> None:
    cohort = Cohort()
    header = replace(cohort.shares["ada"].header, incarnation=2).signed_by(cohort.identities["ada"].sign)
    message = replace(cohort.shares["ada"], header=header)
    with pytest.raises(ProtocolError, match=RESTORED):
        confirm_epoch(cohort.dealt["bio"][0], cohort.relayed("bio") | {"ada": message.relayed(2)}, cohort.identities["bio"])
    with pytest.raises(ProtocolError, match=RESTORED):
        read_shares(cohort.epoch, cohort.roster, cohort.keys, "ada", message.to_bytes())


def test_the_coordinator_refuses_a_confirmation_of_another_incarnation_than_the_shares() -> None:
    cohort = Cohort()
    honest = cohort.confirmed()["ada"][1]
    changed = replace(honest, incarnation=2)
    signature = cohort.identities["ada"].sign(certified(cohort.epoch, changed.setup_hash, changed.published))
    assert cohort.read("ada", honest) == honest
    with pytest.raises(ProtocolError, match=RESTORED):
        cohort.read("ada", replace(changed, signature=signature))
