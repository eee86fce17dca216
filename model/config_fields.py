"""What the fields of `config.json` may hold, and the fields of other networks, which are refused by name. No torch."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from model.errors import ConfigError

_LARGEST = 2**31 - 1
_MAY_BE_ZERO = {"n_shared_experts", "first_k_dense_replace", "num_nextn_predict_layers", "initializer_range", "mscale", "mscale_all_dim"}
_FOREIGN = {
    "index_n_heads": "belongs to DeepSeek-V3.2",
    "index_topk": "belongs to DeepSeek-V3.2",
    "index_head_dim": "belongs to DeepSeek-V3.2",
    "compress_ratios": "belongs to DeepSeek-V4",
    "compress_rates": "belongs to DeepSeek-V4",
    "hc_mult": "belongs to DeepSeek-V4",
    "o_lora_rank": "belongs to DeepSeek-V4",
}
_FP8: dict[str, tuple[object, ...]] = {  # quantization_config: what is asked for first; None where it may be absent
    "quant_method": ("fp8",),
    "fmt": ("e4m3", None),
    "weight_block_size": ([128, 128],),
    "activation_scheme": ("dynamic", None),
    "scale_fmt": ("ue8m0", None),
}
_FIXED = {"hidden_act": "silu", "mlp_bias": False, "moe_layer_freq": 1, "partial_rotary_factor": 1}


def require(holds: bool, sentence: str) -> None:
    """Raises ConfigError with the sentence unless the condition holds."""
    if not holds:
        raise ConfigError(sentence)


def check_types(owner: Any) -> None:
    """Checks every int, float, bool and str of a dataclass instance against its annotation; ConfigError names the field."""
    for f in fields(owner):
        value, kind = getattr(owner, f.name), str(f.type)
        if value is not None or not kind.endswith(" | None"):
            check_value(f.name, value, kind.removesuffix(" | None"))


def check_value(name: str, value: Any, kind: str) -> None:
    """Raises ConfigError, naming the field, unless a value is of the kind "int", "float", "bool" or "str"; sizes are bounded."""
    shown = reprlib.repr(value)
    if kind in ("bool", "str"):
        wanted = "true or false" if kind == "bool" else "a text"
        require(type(value).__name__ == kind, f"{name} must be {wanted}, and is {shown}")
    elif kind == "int":
        least = 0 if name in _MAY_BE_ZERO else 1
        fits = is_number(value) and isinstance(value, int) and least <= value <= _LARGEST
        require(fits, f"{name} must be a whole number from {least} to {_LARGEST}, and is {shown}")
    elif kind == "float":
        fits = is_number(value) and 0 <= value <= sys.float_info.max and (value > 0 or name in _MAY_BE_ZERO)
        require(fits, f"{name} must be a {'number of at least' if name in _MAY_BE_ZERO else 'number above'} 0, and is {shown}")


def is_number(value: Any) -> bool:
    """An int or a float; JSON's true and false are neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_floats(owner: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with whole numbers as floats where the dataclass means a float: transformers checks the type.

    Raises:
        ConfigError: a value is no such number.
    """
    kinds = {f.name: str(f.type).removesuffix(" | None") for f in fields(owner)}
    result = dict(values)
    for name, value in values.items():
        if kinds.get(name) == "float" and value is not None:
            check_value(name, value, "float")
            result[name] = float(value)
    return result


def check_foreign(content: Mapping[str, Any]) -> None:
    """Refuses what belongs to another network, and switches whose other positions are not supported."""
    for name, whose in _FOREIGN.items():
        require(not content.get(name), f"{name} {whose}, which is not supported: give a DeepSeek-V3 or V2 checkpoint")
    for name, value in _FIXED.items():
        _require_equal(content, name, value, str(value).lower())
    _check_quantization(content.get("quantization_config") or {})
    heads, rope, nope = (content.get(name) for name in ("num_attention_heads", "qk_rope_head_dim", "qk_nope_head_dim"))
    _require_equal(content, "num_key_value_heads", heads, "num_attention_heads")
    _require_equal(content, "head_dim", rope, "qk_rope_head_dim")
    if isinstance(rope, int) and isinstance(nope, int):
        _require_equal(content, "qk_head_dim", rope + nope, "qk_nope_head_dim + qk_rope_head_dim")


def _check_quantization(content: Any) -> None:
    require(isinstance(content, Mapping), f"quantization_config must be an object, and is {reprlib.repr(content)}")
    for name, allowed in _FP8.items() if content else ():
        fits = content.get(name) in allowed
        require(fits, f"quantization_config.{name} must be {allowed[0]}, and is {reprlib.repr(content.get(name))}")


def _require_equal(content: Mapping[str, Any], name: str, value: Any, wording: str) -> None:
    given = content.get(name)
    require(given is None or given == value, f"{name} must be {wording}, and is {reprlib.repr(given)}")
