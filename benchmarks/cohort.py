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

    coordinator: Identity
    identities: Mapping[str, Identity]
    roster: Roster
    epoch: EpochManifest
    states: Mapping[str, EpochState]
    messages: tuple[dict[str, bytes], ...]  # keys, shares and confirmations, by member

    def manifest(self, lanes: LaneFormat) -> SumManifest:
        none = bytes(32)
        manifest = SumManifest("benchmark", 1, "update", 1, 0, none, self.epoch.hash, none, none, lanes, none, none, 0)
        return manifest.signed_by(self.coordinator.sign)


def certified_cohort(institutions: int) -> Cohort:
    """Plays the members' part of the setup."""
    coordinator = Identity.generate("coordinator", os.urandom)
    identities = {name: Identity.generate(name, os.urandom) for name in names(institutions)}
    roster = Roster(tuple(RosterEntry(name, identity.public_key) for name, identity in identities.items()))
    terms = (len(identities), COLLUDING, threshold(institutions, COLLUDING), SUITE, 1, b"")
    epoch = EpochManifest("benchmark", 1, roster.hash_of(identities), tuple(identities), *terms).signed_by(coordinator.sign)
    begun = {name: begin_epoch(epoch, identity, roster, coordinator.public_key, os.urandom) for name, identity in identities.items()}
    keys = {name: message for name, (_, message) in begun.items()}
    dealt = {name: deal_shares(state, keys, os.urandom, identities[name]) for name, (state, _) in begun.items()}
    states, confirmations = {}, {}
    for name, (state, _) in dealt.items():
        relayed = {dealer: message.relayed(epoch.number(name)) for dealer, (_, message) in dealt.items()}
        states[name], confirmations[name] = confirm_epoch(state, relayed, identities[name])
    shares = {name: message for name, (_, message) in dealt.items()}
    sent = tuple({name: message.to_bytes() for name, message in stage.items()} for stage in (keys, shares, confirmations))
    return Cohort(coordinator, identities, roster, epoch, states, sent)


def names(institutions: int) -> list[str]:
    """Names in the order of their numbers."""
    return [f"institution-{number:03}" for number in range(institutions)]
