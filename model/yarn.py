"""Rotary positions in `config.json`: YaRN's settings, under transformers' names or the hub's older ones. No torch."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from model.config_fields import as_floats, check_types, check_value, require

DEFAULT_THETA = 10000.0
DEFAULT_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Yarn:
    """YaRN context extension (Peng et al. 2023) with DeepSeek's two magnitude scales."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        check_types(self)
        require(self.beta_fast >= self.beta_slow, "beta_fast must not be below beta_slow")


def read_rope(content: Mapping[str, Any]) -> tuple[float, Yarn | None]:
    """Base of the rotary angles, and YaRN where it is set, from `rope_parameters` or the hub's `rope_scaling` and `rope_theta`.

    Raises:
        ConfigError: another kind of scaling, or a value that does not fit; the text names the field.
    """
    table = _table(content)
    theta = _theta(table.pop("rope_theta", None), content.get("rope_theta"))
    kind, legacy = table.pop("rope_type", None), table.pop("type", None)
    kind = kind or legacy or "default"
    require(kind in ("default", "yarn"), f"rope type {reprlib.repr(kind)} is not supported: only default and yarn are")
    require(table.pop("truncate", True) is True, "truncate must be true in rope_parameters")
    require(table.pop("partial_rotary_factor", 1) == 1, "partial_rotary_factor must be 1 in rope_parameters")
    unknown = sorted(table.keys() - {f.name for f in fields(Yarn)})
    require(not unknown, f"rope_parameters holds {reprlib.repr(unknown)[1:-1]}, which is not supported: remove it")
    return theta, _yarn(table, content) if kind == "yarn" else None


def rope_parameters(theta: float, yarn: Yarn | None) -> dict[str, Any]:
    """The table as transformers writes it."""
    table = {"rope_type": "yarn" if yarn else "default", "rope_theta": float(theta)}
    own = as_floats(yarn, {f.name: getattr(yarn, f.name) for f in fields(yarn)}) if yarn else {}
    return table | {name: value for name, value in own.items() if value is not None}


def _table(content: Mapping[str, Any]) -> dict[str, Any]:
    tables = [content[name] for name in ("rope_parameters", "rope_scaling") if content.get(name) is not None]
    require(all(isinstance(table, Mapping) for table in tables), "rope_parameters and rope_scaling must be objects")
    require(len(tables) < 2 or tables[0] == tables[1], "rope_scaling contradicts rope_parameters: keep one of them")
    return {name: value for name, value in tables[0].items() if value is not None} if tables else {}


def _theta(inside: Any, outside: Any) -> float:
    require(inside is None or outside is None or inside == outside, "rope_theta is given twice, and the two differ: keep one of them")
    theta = inside if outside is None else outside
    theta = DEFAULT_THETA if theta is None else theta
    check_value("rope_theta", theta, "float")
    return float(theta)


def _yarn(table: Mapping[str, Any], content: Mapping[str, Any]) -> Yarn:
    """Missing lengths as transformers fills them in: the original is the present length, the factor their ratio."""
    length, outside = content.get("max_position_embeddings", DEFAULT_LENGTH), content.get("original_max_position_embeddings")
    original = table.get("original_max_position_embeddings", length if outside is None else outside)
    require(outside in (None, original), "original_max_position_embeddings is given twice, and the two differ: keep one of them")
    check_value("max_position_embeddings", length, "int")
    check_value("original_max_position_embeddings", original, "int")
    return Yarn(**as_floats(Yarn, {"factor": length / original, **table, "original_max_position_embeddings": original}))
