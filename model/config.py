"""The network's sizes under DeepSeek's own names, as Hugging Face's `config.json` spells them. No torch."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from model.config_fields import as_floats, check_foreign, check_types, require
from model.errors import ConfigError
from model.yarn import DEFAULT_LENGTH, DEFAULT_THETA, Yarn, read_rope, rope_parameters

__all__ = ["V2", "V3", "ModelConfig", "Yarn", "read_config"]

V3, V2 = "DeepseekV3ForCausalLM", "DeepseekV2ForCausalLM"
_MODEL_TYPES = {V3: ("deepseek_v3", "kimi_k2"), V2: ("deepseek_v2",)}  # the first is the one written
_SCORING = {V3: "sigmoid", V2: "softmax"}
_METHODS = {V3: ("noaux_tc",), V2: ("greedy", "group_limited_greedy")}
_OTHER_FORM = {"extra", "yarn", "rope_theta", "architecture"}  # fields that config.json holds otherwise
_DERIVED = {"architectures", "model_type", "hidden_act", "num_key_value_heads", "head_dim", "qk_head_dim", "num_mtp_layers"}
_ROPE = {"rope_parameters", "rope_scaling", "rope_theta"}
_NOT_IN_V2 = {"num_nextn_predict_layers", "rope_interleave"}
_NULL = {"n_shared_experts": 0, "n_group": 1}  # what DeepSeek's own code takes null for
_DISPUTED = ("q_lora_rank", "n_shared_experts", "n_group", "topk_group", "norm_topk_prob", "routed_scaling_factor", "first_k_dense_replace")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and switches of one network; `extra` keeps the fields that do not concern the mathematics.

    Raises:
        ConfigError: a value of the wrong type or size, or two that contradict each other; the text names the field.
    """

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
    rope_theta: float = DEFAULT_THETA
    yarn: Yarn | None = None
    rope_interleave: bool = True
    attention_bias: bool = False
    tie_word_embeddings: bool = False
    max_position_embeddings: int = DEFAULT_LENGTH
    initializer_range: float = 0.02
    architecture: str = V3
    scoring_func: Literal["sigmoid", "softmax"] = "sigmoid"
    topk_method: Literal["noaux_tc", "greedy", "group_limited_greedy"] = "noaux_tc"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)
        _check_architecture(self)
        _check_groups(self)
        require(self.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim must be even")
        require(self.rope_theta > 1, "rope_theta must exceed 1")

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ModelConfig:
        """Reads the fields of a `config.json`, legacy hub names (`rope_scaling`, `rope_theta`) included.

        Raises:
            ConfigError: another architecture, a missing field, or a setting that is not supported.
        """
        require(isinstance(content, Mapping), "config.json must hold one JSON object")
        architecture = _architecture(content)
        check_foreign(content)
        known = {f.name for f in fields(cls)} - _OTHER_FORM
        values = _defaults(architecture) | {name: content[name] for name in known if name in content} | _mtp_layers(content)
        values |= _nulls(values)
        needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        require(not (missing := [name for name in needed if name not in values]), f"{', '.join(missing)} is missing: add it")
        theta, yarn = read_rope(content)
        extra = {name: value for name, value in content.items() if name not in known | _DERIVED | _ROPE}
        return cls(**as_floats(cls, values), architecture=architecture, rope_theta=theta, yarn=yarn, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` that transformers reads."""
        absent = _OTHER_FORM | (_NOT_IN_V2 if self.architecture == V2 else set())
        own = as_floats(self, {f.name: getattr(self, f.name) for f in fields(self) if f.name not in absent})
        rope = {"rope_parameters": rope_parameters(self.rope_theta, self.yarn)}
        heads = {"num_key_value_heads": self.num_attention_heads, "head_dim": self.qk_rope_head_dim, "qk_head_dim": self.qk_head_dim}
        fixed = {"architectures": [self.architecture], "model_type": _MODEL_TYPES[self.architecture][0], "hidden_act": "silu"}
        return dict(sorted((dict(self.extra) | own | rope | heads | fixed).items()))


def read_config(directory: Path) -> ModelConfig:
    """Reads `directory/config.json`.

    Raises:
        ConfigError: it is absent, not JSON, describes another network, or leaves out a field on whose default readers differ.
    """
    path = directory / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(f"{path} cannot be read: give the directory of a Hugging Face checkpoint") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} is not JSON in UTF-8: fetch the checkpoint again") from None
    try:
        config = ModelConfig.from_dict(content)
        for name in _DISPUTED:
            require(name in content, f"{name} is missing, and readers differ on what that means: add it")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def _architecture(content: Mapping[str, Any]) -> str:
    """The one name in `architectures`; where there is none, `model_type` decides."""
    kind, names = content.get("model_type"), content.get("architectures")
    if names in (None, []):
        names = [V2 if kind == "deepseek_v2" else V3]
    supported = isinstance(names, list) and len(names) == 1 and names[0] in (V3, V2)
    require(supported, f"architectures is {reprlib.repr(names)}, and only [{V3}] and [{V2}] are supported")
    fits = kind is None or kind in _MODEL_TYPES[names[0]]
    require(fits, f"model_type is {reprlib.repr(kind)}, and {names[0]} needs {_MODEL_TYPES[names[0]][0]}")
    return str(names[0])


def _defaults(architecture: str) -> dict[str, Any]:
    scores = {"scoring_func": _SCORING[architecture], "topk_method": _METHODS[architecture][0]}
    return scores | ({"norm_topk_prob": False} if architecture == V2 else {})


def _mtp_layers(content: Mapping[str, Any]) -> dict[str, Any]:
    """`num_nextn_predict_layers`, which transformers also calls `num_mtp_layers`."""
    given = [content[name] for name in ("num_nextn_predict_layers", "num_mtp_layers") if content.get(name) is not None]
    require(len(given) < 2 or given[0] == given[1], "num_mtp_layers contradicts num_nextn_predict_layers: keep one of them")
    return {"num_nextn_predict_layers": given[0] if given else 0}


def _nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """What stands for null in the fields where DeepSeek's own configurations have it."""
    found = {name: meant for name, meant in _NULL.items() if name in values and values[name] is None}
    if values.get("topk_group", 0) is None:
        single = values["topk_method"] == "greedy" or values.get("n_group") in (None, 1)
        require(single, "topk_group is null, but n_group is above 1: say how many groups are kept")
        found["topk_group"] = 1
    return found


def _check_architecture(config: ModelConfig) -> None:
    name = config.architecture
    require(name in _SCORING, f"architecture {name} is not supported: only {V3} and {V2} are")
    scoring, methods = _SCORING[name], _METHODS[name]
    require(config.scoring_func == scoring, f"scoring_func must be {scoring} in {name}, and is {reprlib.repr(config.scoring_func)}")
    fits = config.topk_method in methods
    require(fits, f"topk_method must be {' or '.join(methods)} in {name}, and is {reprlib.repr(config.topk_method)}")
    if name == V2:
        require(not config.norm_topk_prob, f"norm_topk_prob must be false in {V2}: its readers differ on how true scales the weights")
        require(not config.num_nextn_predict_layers, f"num_nextn_predict_layers must be 0: {V2} has no multi-token prediction")
        require(config.rope_interleave, f"rope_interleave must be true: {V2} rotates interleaved pairs")
        require(config.hidden_size % config.num_attention_heads == 0, f"num_attention_heads must divide hidden_size in {V2}")


def _check_groups(config: ModelConfig) -> None:
    if config.topk_method == "greedy":
        require(config.num_experts_per_tok <= config.n_routed_experts, "num_experts_per_tok exceeds n_routed_experts")
        return
    group = config.n_routed_experts // config.n_group
    require(group * config.n_group == config.n_routed_experts, "n_group must divide n_routed_experts")
    scored = group >= 2 or config.topk_method != "noaux_tc"
    require(scored, "n_group leaves fewer than two experts in a group, and a group's score is the sum of its best two")
    require(config.topk_group <= config.n_group, "topk_group must lie between 1 and n_group")
    require(config.num_experts_per_tok <= config.topk_group * group, "num_experts_per_tok exceeds the experts in the kept groups")
