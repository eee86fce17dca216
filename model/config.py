"""The network's sizes under DeepSeek's own names, as Hugging Face's `config.json` spells them. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from model.errors import ConfigError

ARCHITECTURE = "DeepseekV3ForCausalLM"
_DERIVED = frozenset({"head_dim", "qk_head_dim", "rope_parameters", "rope_scaling", "rope_theta", "num_mtp_layers"})
_FOREIGN = ("index_n_heads", "index_topk", "compress_ratios")
_FP8: dict[str, tuple[object, ...]] = {
    "quant_method": ("fp8",),
    "fmt": ("e4m3", None),
    "weight_block_size": ([128, 128],),
    "activation_scheme": ("dynamic", None),
    "scale_fmt": ("ue8m0", None),
}


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


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and switches of one network; `extra` keeps the fields that do not concern the mathematics."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    moe_intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    n_routed_experts: int
    num_experts_per_tok: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    q_lora_rank: int | None = None
    n_shared_experts: int = 1
    n_group: int = 1
    topk_group: int = 1
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    first_k_dense_replace: int = 1
    num_nextn_predict_layers: int = 0
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    yarn: Yarn | None = None
    rope_interleave: bool = True
    attention_bias: bool = False
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 4096
    initializer_range: float = 0.02
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        group = self.n_routed_experts // max(self.n_group, 1)
        _require(self.n_group > 0 and group * self.n_group == self.n_routed_experts, "n_group must divide n_routed_experts")
        _require(group >= 2, "n_group leaves fewer than two experts in a group, and a group's score is the sum of its best two")
        _require(0 < self.topk_group <= self.n_group, "topk_group must lie between 1 and n_group")
        _require(0 < self.num_experts_per_tok <= self.topk_group * group, "num_experts_per_tok exceeds the experts in the kept groups")
        _require(self.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim must be even")

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ModelConfig:
        """Reads the fields of a `config.json`, legacy hub names (`rope_scaling`, `rope_theta`) included.

        Raises:
            ConfigError: another architecture, a missing field, or a setting that is not supported.
        """
        _check_architecture(content)
        known = {f.name for f in fields(cls)} - {"extra", "yarn", "rope_theta"}
        values = {name: content[name] for name in known if content.get(name) is not None}
        values.setdefault("num_nextn_predict_layers", content.get("num_mtp_layers") or 0)
        theta, yarn = _rope(content)
        extra = {name: value for name, value in content.items() if name not in known | _DERIVED}
        try:
            return cls(**values, rope_theta=theta, yarn=yarn, extra=extra)
        except TypeError as error:
            raise ConfigError(f"config.json lacks what the network needs: {str(error).partition('__init__() ')[2]}") from None

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` that transformers reads."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("extra", "yarn", "rope_theta")}
        rope: dict[str, Any] = {"rope_type": "yarn" if self.yarn else "default", "rope_theta": self.rope_theta}
        if self.yarn:
            rope |= {f.name: getattr(self.yarn, f.name) for f in fields(self.yarn) if getattr(self.yarn, f.name) is not None}
        derived = {"rope_parameters": rope, "num_key_value_heads": self.num_attention_heads, "head_dim": self.qk_rope_head_dim}
        fixed = {"architectures": [ARCHITECTURE], "model_type": "deepseek_v3", "hidden_act": "silu", "qk_head_dim": self.qk_head_dim}
        return dict(sorted((dict(self.extra) | own | derived | fixed).items()))


def read_config(directory: Path) -> ModelConfig:
    """Reads `directory/config.json`.

    Raises:
        ConfigError: it is absent, not JSON, or describes another network.
    """
    path = directory / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(f"{path} cannot be read: give the directory of a Hugging Face checkpoint") from None
    except ValueError:
        raise ConfigError(f"{path} is not JSON: fetch the checkpoint again") from None
    try:
        return ModelConfig.from_dict(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ConfigError(sentence)


def _check_architecture(content: Mapping[str, Any]) -> None:
    names = content.get("architectures") or [ARCHITECTURE]
    _require(ARCHITECTURE in names, f"architectures names {', '.join(map(str, names))}, and only {ARCHITECTURE} is supported")
    for name in _FOREIGN:
        _require(not content.get(name), f"{name} belongs to a variant of the network that is not supported")
    quantization = content.get("quantization_config") or {}
    for name, allowed in _FP8.items() if quantization else ():
        found = quantization.get(name)
        _require(found in allowed, f"quantization_config.{name} is {found}, and only {allowed[0]} is supported")
    _require(content.get("hidden_act", "silu") == "silu", "hidden_act must be silu")
    heads = content.get("num_attention_heads")
    _require(content.get("num_key_value_heads") in (None, heads), "num_key_value_heads must equal num_attention_heads")


def _rope(content: Mapping[str, Any]) -> tuple[float, Yarn | None]:
    scaling = content.get("rope_parameters") or content.get("rope_scaling") or {}
    theta = float(scaling.get("rope_theta") or content.get("rope_theta") or 10000.0)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    _require(kind in ("default", "yarn"), f"rope type {kind} is not supported: only default and yarn are")
    if kind == "default":
        return theta, None
    names = {f.name for f in fields(Yarn)}
    values = {name: value for name, value in scaling.items() if name in names and value is not None}
    values.setdefault("factor", content.get("max_position_embeddings", 4096) / values.get("original_max_position_embeddings", 4096))
    values.setdefault("original_max_position_embeddings", content.get("max_position_embeddings", 4096))
    return theta, Yarn(**values)
