"""What only `simulate` reads: one file of records, divided among institutions."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from protocols.plan.table import LARGEST_INT, NonNegativeInt, PositiveFloat, PositiveInt, Table


class ByField(Table):
    """One institution for each value of a field, in order of size."""

    field: str = Field(min_length=1)


class Dirichlet(Table):
    """Label skew: each label's records are divided by a Dirichlet draw."""

    dirichlet: str = Field(min_length=1)
    alpha: PositiveFloat


class Uniform(Table):
    """Records dealt out evenly at random."""

    uniform: Literal[True]


def _partition_table(value: Any) -> str | None:
    """The table that a partition's keys belong to, so that an error is about that one alone."""
    tables: dict[str, type[Table]] = {"field": ByField, "dirichlet": Dirichlet, "uniform": Uniform, "alpha": Dirichlet}
    if isinstance(value, dict):
        return next((table.__name__ for key, table in tables.items() if key in value), None)
    return type(value).__name__


Partition = Annotated[
    Annotated[ByField, Tag("ByField")] | Annotated[Dirichlet, Tag("Dirichlet")] | Annotated[Uniform, Tag("Uniform")],
    Discriminator(
        _partition_table,
        custom_error_type="partition",
        custom_error_message="give { field = ... }, { dirichlet = ..., alpha = ... } or { uniform = true }",
    ),
]


class Simulation(Table):
    """What only `simulate` reads."""

    source: str = Field(min_length=1, description="records; a path relative to the plan")
    partition: Partition = Field(Uniform(uniform=True), description="field, dirichlet with alpha, or uniform")
    group: str = Field("", description="field that names the group of a record, say the patient; needed where privacy.unit is group")
    institutions: Annotated[int, Field(ge=3, le=LARGEST_INT)] = Field(5, description="how many institutions")
    max_ranks: Annotated[tuple[PositiveInt, ...], Field(strict=False)] = Field(
        (), description="hardware.max_rank of each institution, the largest institution first; empty: no limit"
    )
    max_records: NonNegativeInt = Field(0, description="training records per institution; 0 takes all")

    @model_validator(mode="after")
    def _one_rank_each(self) -> Self:
        if self.max_ranks and len(self.max_ranks) != self.institutions:
            raise ValueError(f"max_ranks has {len(self.max_ranks)} entries and there are {self.institutions} institutions")
        return self
