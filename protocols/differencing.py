"""Which further set of the same vectors may be opened after others: a smaller one inside each, so that no combination is of few."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def may_follow(further: Collection[str], earlier: Iterable[Collection[str]], colluding: int) -> bool:
    """Whether a set lies strictly inside every earlier one and leaves at least `colluding + 2` of its members out.

    Sets that follow each other so are nested, S1 ⊃ S2 ⊃ … ⊃ Sk. They part S1 into the rings S1 \\ S2, …, S(k-1) \\ Sk and Sk itself,
    each of at least `colluding + 2` members: Sk too, as a threshold is at least that. The members of a ring are in the same sets, so
    that their vectors have the same factor in whatever linear combination of the totals. Each combination that is not zero thus
    holds a whole ring, and with it two honest institutions. Sets that only differ in many members do not do: of {a, b, c},
    {a, d, e} and {b, c, d, e}, the first two totals less the third are twice the vector of a.
    """
    members = set(further)
    return all(members < set(one) and len(one) - len(members) >= colluding + 2 for one in earlier)
