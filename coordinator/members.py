"""Whom a run is of now, and under which keys its epochs were agreed: a roster may change between sums, what was signed holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coordinator.transcripts import keep_parties, kept_parties
from protocols.epoch import EpochManifest
from protocols.errors import RosterError, SignatureError
from protocols.identity import Envelope
from protocols.parties import Parties
from protocols.roster import Roster

OfferedRoster = Callable[[], Roster]


def constant(roster: Roster) -> OfferedRoster:
    """Of a run whose institutions do not change."""
    return lambda: roster


class Members:
    """The run's `roster.toml`: read when the run goes on, written whenever the roster that is offered has changed."""

    def __init__(self, offered: OfferedRoster, directory: Path, coordinator_key: bytes) -> None:
        self._offered, self._directory = offered, directory
        known = (directory / "roster.toml").exists()
        self.parties = kept_parties(directory) if known else Parties(offered(), coordinator_key)
        if not known:
            keep_parties(directory, self.parties)
        self.refresh()

    @property
    def roster(self) -> Roster:
        """As it was when it was last refreshed."""
        return self.parties.roster

    def refresh(self) -> None:
        """Takes over the roster that is offered now; keys that are not on it any more count for earlier epochs alone."""
        roster = self._offered()
        if roster != self.roster:
            parties = self.parties.replaced_by(roster)
            keep_parties(self._directory, parties)
            self.parties = parties

    def roster_of(self, epoch: EpochManifest) -> Roster:
        """The epoch's members with the keys that they had in it."""
        return self.parties.roster_of(epoch)

    def is_current(self, epoch: EpochManifest) -> bool:
        """Whether all its members are on the roster with the keys that they have in it."""
        on_roster = set(epoch.members) <= set(self.roster.names)
        return on_roster and self.roster.hash_of(epoch.members) == epoch.roster_hash

    def open_envelope(self, data: bytes) -> Envelope:
        """An answer, of a key that its sender has, or had when the sum began, or has since then.

        Raises:
            MalformedMessage, RosterError, SignatureError: nobody of the run signed it.
        """
        try:
            return self.parties.open_envelope(data)
        except (RosterError, SignatureError):
            return Parties(self._offered(), self.parties.coordinator_key).open_envelope(data)
