"""A pretraining recipe: everything that decides the resulting bytes, and their hash."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.errors import RecipeError

Task = Literal["prose", "keywords", "related", "topic", "clean"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Books(_Strict):
    """The JSONL file of chapters, relative to the data folder, and its SHA-256."""

    file: str
    sha256: Sha256


class TopicSearch(_Strict):
    """Rank of the latent semantic analysis, words too common for it, and the number of topics of each division (at most four)."""

    common_words: int = Field(default=350, ge=0)
    dimensions: int = Field(default=128, ge=2)
    counts: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1, max_length=4)] = [512]


class Optimisation(_Strict):
    """AdamW with warm-up and cosine decay; `bias_update_speed` is DeepSeek-V3's gamma for the router's biases."""

    steps: int = Field(ge=1)
    mtp_steps: int = Field(default=0, ge=0)  # for the MTP modules alone, afterwards
    tokens_per_step: int = Field(ge=64)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    state_scale: float = Field(default=1.0, gt=0)  # of the residual stream, after the main stage
    bias_update_speed: float = Field(default=0.002, ge=0)


class Recipe(_Strict):
    """What to make a base from, and how."""

    seed: int = Field(ge=0)
    books: Books
    vocab_size: int = Field(ge=300)
    prompt_share: float = Field(default=0.3, ge=0, le=1)  # of prompt tokens that are targets
    topics: TopicSearch = TopicSearch()
    tasks: dict[Task, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    optimisation: Optimisation
    network: dict[str, Any]  # config.json fields
    result_sha256: Sha256 | None = None  # of the checkpoint, on the machine that made it

    @property
    def shares(self) -> dict[str, float]:
        """How often each task is drawn, relative to the others."""
        return {str(task): share for task, share in self.tasks.items()}


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe file.

    Raises:
        RecipeError: it cannot be read or a field is wrong; the text names the field.
    """
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise RecipeError(f"{path} cannot be read: give a recipe file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML ({error}): correct it") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise RecipeError(f"{path}: {field}: {first['msg']}") from None


def find_books(recipe: Recipe, data: Path) -> Path:
    """The recipe's books in the folder `data`, their hash checked.

    Raises:
        RecipeError: the file is missing or another one.
    """
    path = data / recipe.books.file
    if not path.is_file():
        raise RecipeError(f"{path} is missing: give with --data the folder that holds {recipe.books.file}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != recipe.books.sha256:
        raise RecipeError(f"{path} is not the file that the recipe names (its SHA-256 differs): restore it or change books.sha256")
    return path
