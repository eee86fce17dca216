"""What each lane of a private run tells of training records; a lane of which nothing is declared is in no layout (PROTOCOL, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from protocols.encoding import Block
from protocols.errors import PrivacyError


class Sensitivity(Enum):
    """How a lane's values come to be."""

    NOISED = "inside the clipped and noised quantity, which the accounting charges"
    PUBLIC = "a constant of the plan, the same at every institution"
    TEST_RECORDS = "about test records, which are never trained on; no noise covers them"


_DECLARED: Mapping[str, Sensitivity] = {
    "delta": Sensitivity.NOISED,
    "weight": Sensitivity.PUBLIC,
    "expert_weights": Sensitivity.PUBLIC,
    "numerator": Sensitivity.TEST_RECORDS,
    "denominator": Sensitivity.TEST_RECORDS,
    "accepted": Sensitivity.TEST_RECORDS,
    "drafted": Sensitivity.TEST_RECORDS,
}


def sensitivity(lane: str) -> Sensitivity:
    """What is declared of a lane by the part of its name before the first dot.

    Raises
    ------
    PrivacyError
        Nothing is: its values may be exact figures of training records.
    """
    declared = _DECLARED.get(lane.partition(".")[0])
    if declared is None:
        raise PrivacyError(f"the lane {lane} has no declared sensitivity, so no private run may hold it; take what adds it out of the plan")
    return declared


def check_lanes(blocks: Iterable[Block]) -> None:
    """Raises PrivacyError at the first lane without a declared sensitivity."""
    for block in blocks:
        sensitivity(block.name)
