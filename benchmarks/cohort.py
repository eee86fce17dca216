"""A certified epoch of any number of institutions and the manifest of its one sum, for programs that play only some of the parties."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from protocols.epoch import SUITE, EpochManifest, EpochState, begin_epoch, confirm_epoch, deal_shares, threshold
from protocols.identity import Identity
from protocols.lanes import LaneFormat
from protocols.roster import Roster, RosterEntry
from protocols.secagg import SumManifest

COLLUDING = 1


@dataclass(frozen=True)
class Cohort:
    """The members' secrets, and the bytes of the setup's messages, which are the coordinator's."""

    identities: Mapping[str, Identity]
    roster: Roster
    epoch: EpochManifest
    states: Mapping[str, EpochState]
    messages: tuple[dict[str, bytes], dict[str, bytes], dict[str, bytes]]  # keys, shares and confirmations by member

    def manifest(self, lanes: LaneFormat) -> SumManifest:
        none = bytes(32)
        manifest = SumManifest("benchmark", 1, "update", 1, 0, none, self.epoch.hash, none, none, lanes, none, none, 0)
        return manifest.signed_by(Identity.generate("coordinator", os.urandom))


def certified_cohort(institutions: int) -> Cohort:
    """Plays the members' part of the setup."""
    identities = {name: Identity.generate(name, os.urandom) for name in names(institutions)}
    roster = Roster(tuple(RosterEntry(name, identity.public_key) for name, identity in identities.items()))
    t = threshold(institutions, COLLUDING)
    epoch = EpochManifest("benchmark", 1, roster.roster_hash, tuple(identities), institutions, COLLUDING, t, SUITE, 1)
    begun = {name: begin_epoch(epoch, identity, roster, os.urandom) for name, identity in identities.items()}
    keys = {name: message for name, (_, message) in begun.items()}
    dealt = {name: deal_shares(state, keys, os.urandom, identities[name]) for name, (state, _) in begun.items()}
    shares = {name: message for name, (_, message) in dealt.items()}
    confirmed = {name: confirm_epoch(state, shares, identities[name]) for name, (state, _) in dealt.items()}
    sent = (
        {n: m.to_bytes() for n, m in keys.items()},
        {n: m.to_bytes() for n, m in shares.items()},
        {n: c for n, (_, c) in confirmed.items()},
    )
    return Cohort(identities, roster, epoch, {name: state for name, (state, _) in confirmed.items()}, sent)


def names(institutions: int) -> list[str]:
    """Names in the order of their numbers."""
    return [f"institution-{number:03}" for number in range(institutions)]
