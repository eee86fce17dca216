"""The terms of an epoch: who takes part, how many may collude, how many must agree (PROTOCOL, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.codec import SignedMessage
from protocols.errors import ProtocolError, RosterError, ThresholdError
from protocols.identity import verify
from protocols.roster import Roster
from protocols.suites import SUITES

MOST_MEMBERS = 250
MOST_SLOTS = 256


def threshold(n: int, colluding: int) -> int:
    """Fewest institutions that open a sum: two sets that large share more than the colluding ones."""
    return (n + colluding) // 2 + 1


@dataclass(frozen=True)
class EpochManifest(SignedMessage):
    """The terms of an epoch, as the coordinator signs them and every member checks them."""

    run: str
    epoch: int
    roster_hash: bytes  # of the members' names and keys alone: institutions whose rosters differ in others work together
    members: tuple[str, ...]
    n: int
    colluding: int
    threshold: int
    suite: str
    slots: int
    signature: bytes

    def check(self, roster: Roster, coordinator_key: bytes) -> None:
        """What every member checks before it takes part.

        Raises:
            ProtocolError: the terms are unsafe or not the coordinator's, or a member is unknown.
        """
        verify(coordinator_key, self.signed(), self.signature, "the coordinator")
        if self.suite not in SUITES:
            raise ProtocolError(f"the suite {self.suite} is not one of {', '.join(SUITES)}; both sides must run the same version")
        if list(self.members) != sorted(set(self.members)) or len(self.members) != self.n or self.n > MOST_MEMBERS:
            raise ProtocolError(f"the epoch's members must be {self.n} different names in order, at most {MOST_MEMBERS}")
        if not 1 <= self.slots <= MOST_SLOTS:
            raise ProtocolError(f"an epoch of {self.slots} slots is refused; it has 1 to {MOST_SLOTS}")
        if self.roster_hash != roster.hash_of(self.members):
            raise ProtocolError("the epoch is for another roster: a member has another key there; compare rosters before going on")
        check_threshold(self.n, self.colluding, self.threshold)

    @property
    def uses_mlkem(self) -> bool:
        """Whether channel secrets take ML-KEM-768 beside X25519."""
        return self.suite == "SA-1"

    def number(self, name: str) -> int:
        """A member's place from 1 on: the point at which its shares are taken.

        Raises:
            RosterError: it is no member.
        """
        if name not in self.members:
            raise RosterError(f"{name} is not a member of epoch {self.epoch}")
        return self.members.index(name) + 1


def check_threshold(n: int, colluding: int, t: int) -> None:
    """Raises ThresholdError unless 2t > n + c, t <= n and t - c >= 2."""
    if t < threshold(n, colluding) or t > n or t - colluding < 2:
        raise ThresholdError(
            f"a threshold of {t} among {n} institutions with {colluding} colluding is unsafe: it needs 2t > n + c, t <= n and t - c >= 2"
        )
