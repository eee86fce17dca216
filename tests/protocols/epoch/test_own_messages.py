"""A member sees its own setup messages relayed as it sent them, or goes no further."""

from __future__ import annotations

import pytest

from protocols.epoch import confirm_epoch, deal_shares
from protocols.errors import ProtocolError
from tests.protocols.secagg.cohort import MEMBERS, Cohort


@pytest.mark.parametrize("name", MEMBERS)
def test_own_keys_swapped_for_other_own_keys_are_refused(name: str) -> None:
    cohort = Cohort()
    state, _ = cohort.begun[name]
    _, earlier = cohort.begin(name)
    with pytest.raises(ProtocolError, match=f"the keys relayed as those of {name} are not its own"):
        deal_shares(state, cohort.keys | {name: earlier}, cohort.randomness, cohort.identities[name])


@pytest.mark.parametrize("name", MEMBERS)
def test_own_shares_swapped_for_other_own_shares_are_refused(name: str) -> None:
    cohort = Cohort()
    _, earlier = deal_shares(cohort.begun[name][0], cohort.keys, cohort.randomness, cohort.identities[name])
    shown = cohort.relayed(name) | {name: earlier.relayed(cohort.epoch.number(name))}
    with pytest.raises(ProtocolError, match=f"the shares relayed as those of {name} are not its own"):
        confirm_epoch(cohort.dealt[name][0], shown, cohort.identities[name])
