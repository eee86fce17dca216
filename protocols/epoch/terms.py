"""The terms of an epoch: who takes part, how many may collude, how many must agree (PROTOCOL, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.codec import Message
from protocols.errors import ProtocolError, ThresholdError
from protocols.roster import Roster

SUITE = "SA-1"  # X25519 + ML-KEM-768, HKDF-SHA256, AES-256-GCM, AES-256-CTR, Ed25519
MOST_MEMBERS = 250
MOST_SLOTS = 256


def threshold(n: int, colluding: int) -> int:
    """Fewest institutions that open a sum: two sets that large share more than the colluding ones."""
    return (n + colluding) // 2 + 1


@dataclass(frozen=True)
class EpochManifest(Message):
    """The terms of an epoch, as the coordinator proposes them and every member checks them."""

    run: str
    epoch: int
    roster_hash: bytes
    members: tuple[str, ...]
    n: int
    colluding: int
    threshold: int
    suite: str
    slots: int

    def check(self, roster: Roster) -> None:
        """What every member checks before it takes part.

        Raises:
            ThresholdError, ProtocolError, RosterError: the terms are unsafe, or a member is unknown.
        """
        if self.suite != SUITE:
            raise ProtocolError(f"the suite {self.suite} is not {SUITE}; both sides must run the same version")
        if list(self.members) != sorted(set(self.members)) or len(self.members) != self.n or self.n > MOST_MEMBERS:
            raise ProtocolError(f"the epoch's members must be {self.n} different names in order, at most {MOST_MEMBERS}")
        if not 1 <= self.slots <= MOST_SLOTS:
            raise ProtocolError(f"an epoch of {self.slots} slots is refused; it has 1 to {MOST_SLOTS}")
        if self.roster_hash != roster.roster_hash:
            raise ProtocolError("the epoch is for another roster; compare rosters before going on")
        for name in self.members:
            roster.key_of(name)
        check_threshold(self.n, self.colluding, self.threshold)

    def number(self, name: str) -> int:
        """A member's place from 1 on: the point at which its shares are taken."""
        return self.members.index(name) + 1


def check_threshold(n: int, colluding: int, t: int) -> None:
    """Raises ThresholdError unless 2t > n + c, t <= n and t - c >= 2."""
    if t < threshold(n, colluding) or t > n or t - colluding < 2:
        raise ThresholdError(
            f"a threshold of {t} among {n} institutions with {colluding} colluding is unsafe: it needs 2t > n + c, t <= n and t - c >= 2"
        )
