"""What every table of a plan shares: strictness, and the types of its values."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Beyond these a lane's scale, a float32 or a database's integer would run over.
LARGEST_INT = 2**31 - 1
SMALLEST, LARGEST = 1e-12, 1e6

PositiveInt = Annotated[int, Field(gt=0, le=LARGEST_INT)]
NonNegativeInt = Annotated[int, Field(ge=0, le=LARGEST_INT)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
PositiveFloat = Annotated[float, Field(ge=SMALLEST, le=LARGEST, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
LearningRate = Annotated[float, Field(ge=SMALLEST, le=1000, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]  # TOML and JSON have arrays, no tuples; the texts themselves stay strict


class Table(BaseModel):
    """A TOML table in which an unknown key is an error, and so is a value of another type; an integer may stand for a real number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
