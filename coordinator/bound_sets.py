"""What becomes of a proposed set whose members signed another one before: nobody signs a second, so it is waited for no longer.

PROTOCOL, section 3, binds a state and kind of sum to one set. A set that nobody has signed yet may give way to the one that institutions
are bound to; a signed one is opened or the sum is lost, and the run with it (`docs/decisions/0006-one-set-for-a-sum.md`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BoundSets:
    """Members of a proposed set, and of those who refuse it for good the set that they signed before."""

    proposed: tuple[str, ...]
    signed: Mapping[str, tuple[str, ...]]  # in the institutions' own words

    @property
    def refusing(self) -> tuple[str, ...]:
        """Who is bound to another set than the proposed one."""
        return tuple(sorted(name for name in self.proposed if self.signed.get(name, self.proposed) != self.proposed))

    def is_lost(self, threshold: int) -> bool:
        """Whether fewer members than so many can ever sign the proposed set."""
        return len(self.proposed) - len(self.refusing) < threshold

    def other(self, colluding: int, known: Collection[str]) -> tuple[str, ...] | None:
        """The set of `known` institutions that more members say to have signed than may lie together; None without one."""
        said = Counter(self.signed[name] for name in self.refusing)
        return next((members for members, count in said.most_common(1) if count > colluding and set(members) <= set(known)), None)

    def sentence(self, kind: str, colluding: int, other: tuple[str, ...] | None, earlier: Collection[str]) -> str:
        """For the operator; `earlier` are runs that began from the same state."""
        signed = f"the set {', '.join(other)}" if other else "another set"
        runs = f" (runs that began alike: {', '.join(earlier)})" if earlier else ""
        others = sorted(set(self.proposed) - set(other or self.proposed))
        again = f", or again once {', '.join(others)} refuse it or have withdrawn" if others else ""
        few = len(self.refusing) <= colluding
        unsure = (
            f"; {colluding} may lie together, so ask {', '.join(self.refusing)} first, and resume the run if that was wrong" if few else ""
        )
        return (
            f"the {kind} sum of {', '.join(self.proposed)} cannot be opened: {', '.join(self.refusing)} signed {signed} "
            f"for the same state before{runs}, and no second one; submit the plan with another seed{again}{unsure}"
        )
