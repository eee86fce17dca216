"""How the model is measured, and what must hold before it is released."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from protocols.plan.table import FiniteFloat, PositiveInt, Table, Texts


class Evaluation(Table):
    """How the federated model is measured, by secure sums over the institutions' test records."""

    metric: Literal["accuracy", "exact_match", "bits_per_byte"] = Field("accuracy", description="a pair of sums over test records")
    every: PositiveInt = Field(1, description="rounds between two evaluations; the last round is always evaluated")
    choices: Texts = Field((), description="the closed list of targets for accuracy, spaces included; simulate fills an empty one")
    max_records: PositiveInt = Field(2000, description="test records per institution")

    @property
    def higher_is_better(self) -> bool:
        return self.metric != "bits_per_byte"


class Requirements(Table):
    """What must hold before a model version is released."""

    metric_above_base: FiniteFloat | None = Field(0.0, description="improvement over the base that a release needs")
    no_institution_worse_than_alone: bool = Field(
        False,
        description="each institution trains its local-only model within the last evaluation; for none may the shared one be worse",
    )


class Release(Table):
    """The release gate."""

    require: Requirements = Requirements()
