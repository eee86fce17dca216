"""Which institutions a sum is of: all, or one of the plan's fixed batches in turn (PROTOCOL, section 3; attack 7 of the survey).

Sets that change at random give single institutions away within a few rounds, as the difference of two sums (So et al. 2021,
arXiv:2106.03328, who propose fixed batches). Here a sum is of a whole batch or of everybody, and who is in which batch follows from the
roster alone: neither the coordinator nor an institution chooses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from protocols.epoch import check_threshold, threshold
from protocols.errors import ParticipationError, ThresholdError
from protocols.plan import Plan

IN_BATCHES = ("parts", "update", "update-2")  # sums of a round's training; all others are of everybody


def batch_of(names: Iterable[str], batches: int, round_number: int) -> tuple[str, ...]:
    """Who trains in a round, from 1 on: the roster's sorted names are dealt into fixed groups, which take turns."""
    return tuple(sorted(names)[(round_number - 1) % batches :: batches])


def turn_of(plan: Plan, round_number: int) -> int:
    """How many times, with this one, the round's batch has trained; the round itself where there is one batch."""
    return (round_number - 1) // plan.participation.batches + 1


def members_of(plan: Plan, names: Iterable[str], round_number: int, kind: str) -> tuple[str, ...]:
    """Of whom a sum is, sorted; whoever of them does not answer is missing from it."""
    return batch_of(names, plan.participation.batches, round_number) if kind in IN_BATCHES else tuple(sorted(names))


def institutions_of(plan: Plan, members: int) -> int:
    """How many institutions train in all, from the size of the epoch of one batch or of everybody: a number that all of them share."""
    return members * plan.participation.batches


def check_members(plan: Plan, names: Iterable[str], round_number: int, kind: str, epoch: Collection[str]) -> None:
    """What every institution checks by itself, on its own roster's names: that a coordinator chose no other set to compare with.

    With one batch every sum is of everybody, whoever that is: the epoch's members are checked against each roster elsewhere.

    Raises:
        ParticipationError: a member of the sum's epoch is not in the round's batch.
    """
    strangers = sorted(set(epoch) - set(members_of(plan, names, round_number, kind)))
    if strangers:
        raise ParticipationError(
            f"{', '.join(strangers)} is not in the batch of round {round_number}, and its {kind} sum is of that batch alone; "
            "with batches the rosters of all institutions must hold the same names"
        )


def fewest_in_a_sum(plan: Plan) -> int:
    """Institutions that the plan wants in a sum, at least; a run that cannot have them does not go on."""
    return max(plan.secure_aggregation.min_institutions, plan.participation.quorum)


def too_small(plan: Plan, institutions: int) -> str | None:
    """Why so many institutions do not carry the plan's secure sums in its batches; None if they do, or train all together."""
    sums, participation = plan.secure_aggregation, plan.participation
    if participation.batches == 1:
        return None
    size, needed = institutions // participation.batches, fewest_in_a_sum(plan)
    of = f"of {institutions} institutions the smallest of {participation.batches} batches has {size}"
    if size < needed:
        return f"{of} and a round needs {needed}; take fewer batches, or more institutions"
    try:
        check_threshold(size, sums.colluding, threshold(size, sums.colluding))
    except ThresholdError:
        return f"{of}, too few for secure_aggregation.colluding = {sums.colluding}; take fewer batches, or more institutions"
    return None
