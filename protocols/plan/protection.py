"""Who takes part, what the sums hide, and what noise adds to that."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from protocols.plan.table import LARGEST_INT, NonNegativeInt, PositiveFloat, PositiveInt, Table
from protocols.suites import SUITE, Suite

DURATION_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Participation(Table):
    """Who has to take part, and for how long a round waits."""

    quorum: Annotated[int, Field(ge=2, le=LARGEST_INT)] = Field(3, description="fewest institutions in a round")
    deadline: str = Field("2h", description="longest wait for one stage: a number with s, m, h or d")
    batches: PositiveInt = Field(1, description="fixed groups that train in turn, dealt by name from the roster; 1: all in every round")
    retries: NonNegativeInt = Field(2, description="further attempts at a sum that failed")

    @field_validator("deadline")
    @classmethod
    def _is_duration(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9][0-9]{0,5}[smhd]", value):
            raise ValueError("a duration such as 90s, 30m, 2h or 1d is needed")
        return value

    @property
    def deadline_seconds(self) -> int:
        return int(self.deadline[:-1]) * DURATION_SECONDS[self.deadline[-1]]


class SecureAggregation(Table):
    """The terms of the secure sum (docs: threat model)."""

    min_institutions: Annotated[int, Field(ge=3, le=LARGEST_INT)] = Field(3, description="fewest members of a cohort")
    colluding: NonNegativeInt = Field(1, description="institutions that may collude with the coordinator")
    audit_rounds: PositiveInt = Field(2, description="rounds for which masked uploads are kept to check totals with")
    lanes: Literal[32, 24, 20] = Field(32, description="bits per element of an update; weights and counts always have 32")
    suite: Suite = Field(SUITE, description="SA-1: keys agreed by X25519 and ML-KEM-768; SA-1-X25519: by X25519 alone")


class Privacy(Table):
    """Differential privacy of training records. Without this table no noise is added, and the report says so."""

    epsilon: Annotated[float, Field(gt=0, le=100)] = Field(8.0, description="what the whole run may spend of an institution's budget")
    delta: Annotated[float, Field(ge=1e-12, lt=1)] = Field(
        1e-5, description="must be below one over an institution's records, or groups; its node checks"
    )
    unit: Literal["record", "group"] = Field("record", description="what is protected: one record, or all records of a group together")
    mechanism: Literal["local", "distributed"] = Field(
        "local", description="local: DP-SGD at every step; distributed: one step a round, with noise shared under the sum"
    )
    clip: PositiveFloat = Field(1.0, description="largest norm of one unit's gradient")
    noise_multiplier: PositiveFloat | None = Field(
        None, description="distributed alone: the sum's noise over one unit's norm; local noise is each node's own to compute"
    )
