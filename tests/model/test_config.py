"""config.json: what is read, what is refused with one sentence, and that nothing else can happen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import V2, V3, ModelConfig, Yarn, read_config
from model.errors import ConfigError
from model.fp8 import QUANTIZATION
from model.layers import _attention_factor, _frequencies
from tests.model.configurations import DEEPSEEK_V2, QUERY_LORA, SMALL, VARIANTS

PLAIN = ModelConfig(**SMALL).to_dict()
YARN: dict[str, Any] = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 64}

REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("architectures", {"architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32"}),
    ("architectures", {"architectures": ["DeepseekV4ForCausalLM"], "model_type": "deepseek_v4"}),
    ("architectures", {"architectures": ["LlamaForCausalLM"]}),
    ("architectures", {"architectures": [V3, V2]}),
    ("architectures", {"architectures": V3}),
    ("architectures", {"architectures": [None]}),
    ("model_type", {"model_type": "deepseek_v32"}),
    ("model_type", {"model_type": "llama"}),
    ("index_n_heads", {"index_n_heads": 64}),
    ("index_topk", {"index_topk": 2048}),
    ("compress_ratios", {"compress_ratios": [0, 0, 4, 128]}),
    ("hc_mult", {"hc_mult": 4}),
    ("quantization_config", {"quantization_config": 8}),
    ("quantization_config.quant_method", {"quantization_config": {"quant_method": "gptq", "bits": 4}}),
    ("quantization_config.fmt", {"quantization_config": QUANTIZATION | {"fmt": "e5m2"}}),
    ("quantization_config.weight_block_size", {"quantization_config": QUANTIZATION | {"weight_block_size": [64, 64]}}),
    ("quantization_config.activation_scheme", {"quantization_config": QUANTIZATION | {"activation_scheme": "static"}}),
    ("quantization_config.scale_fmt", {"quantization_config": QUANTIZATION | {"scale_fmt": "int8"}}),
    ("hidden_act", {"hidden_act": "gelu"}),
    ("mlp_bias", {"mlp_bias": True}),
    ("moe_layer_freq", {"moe_layer_freq": 2}),
    ("num_key_value_heads", {"num_key_value_heads": 1}),
    ("head_dim", {"head_dim": 192}),
    ("qk_head_dim", {"qk_head_dim": 8}),
    ("scoring_func", {"scoring_func": "softmax"}),
    ("scoring_func", {"scoring_func": "sqrtsoftplus"}),
    ("scoring_func", {"scoring_func": None}),
    ("topk_method", {"topk_method": "greedy"}),
    ("hidden_size", {"hidden_size": "128"}),
    ("hidden_size", {"hidden_size": 128.5}),
    ("hidden_size", {"hidden_size": True}),
    ("hidden_size", {"hidden_size": None}),
    ("vocab_size", {"vocab_size": 0}),
    ("vocab_size", {"vocab_size": 10**400}),
    ("num_hidden_layers", {"num_hidden_layers": -3}),
    ("n_shared_experts", {"n_shared_experts": -1}),
    ("q_lora_rank", {"q_lora_rank": 0}),
    ("qk_rope_head_dim", {"qk_rope_head_dim": 7, "head_dim": 7, "qk_head_dim": 15}),
    ("attention_bias", {"attention_bias": "false"}),
    ("norm_topk_prob", {"norm_topk_prob": 1}),
    ("tie_word_embeddings", {"tie_word_embeddings": "true"}),
    ("rms_norm_eps", {"rms_norm_eps": 0.0}),
    ("rms_norm_eps", {"rms_norm_eps": "1e-6"}),
    ("routed_scaling_factor", {"routed_scaling_factor": float("nan")}),
    ("routed_scaling_factor", {"routed_scaling_factor": float("inf")}),
    ("routed_scaling_factor", {"routed_scaling_factor": 10**400}),
    ("initializer_range", {"initializer_range": -0.02}),
    ("n_group must divide", {"n_group": 3}),
    ("n_group leaves fewer", {"n_group": 8}),
    ("topk_group", {"n_group": 2, "topk_group": 3}),
    ("topk_group", {"n_group": 2, "topk_group": None}),
    ("num_experts_per_tok", {"num_experts_per_tok": 9}),
    ("num_mtp_layers", {"num_nextn_predict_layers": 1, "num_mtp_layers": 2}),
    ("num_nextn_predict_layers", {"num_nextn_predict_layers": -1}),
    ("rope_parameters", {"rope_parameters": "yarn"}),
    ("rope type 'linear'", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}),
    ("rope type 'longrope'", {"rope_parameters": None, "rope_scaling": {"type": "longrope"}}),
    ("rope_scaling contradicts", {"rope_scaling": {"type": "yarn", "factor": 4.0}}),
    ("rope_theta", {"rope_theta": 50000.0}),
    ("rope_theta", {"rope_parameters": {"rope_theta": "10000"}}),
    ("rope_theta", {"rope_parameters": {"rope_theta": 1.0}}),
    ("full_attention", {"rope_parameters": {"full_attention": YARN}}),
    ("truncate", {"rope_parameters": YARN | {"truncate": False}}),
    ("partial_rotary_factor", {"rope_parameters": YARN | {"partial_rotary_factor": 0.5}}),
    ("partial_rotary_factor", {"partial_rotary_factor": 0.5}),
    ("factor", {"rope_parameters": YARN | {"factor": "4"}}),
    ("factor", {"rope_parameters": YARN | {"factor": -4.0}}),
    ("mscale", {"rope_parameters": YARN | {"mscale": -1.0}}),
    ("beta_fast", {"rope_parameters": YARN | {"beta_fast": 1.0, "beta_slow": 32.0}}),
    ("original_max_position_embeddings", {"rope_parameters": YARN | {"original_max_position_embeddings": 0}}),
    ("original_max_position_embeddings", {"rope_parameters": YARN, "original_max_position_embeddings": 128}),
    ("max_position_embeddings", {"max_position_embeddings": "4096", "rope_parameters": {"rope_type": "yarn", "rope_theta": 100.0}}),
]


@pytest.mark.parametrize(("words", "change"), REFUSED, ids=str)
def test_what_is_not_supported_is_refused_by_name(words: str, change: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PLAIN | change))
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: ") and words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"architectures": None, "model_type": None}, {}),
        ({"model_type": "kimi_k2"}, {}),
        ({"num_key_value_heads": None, "head_dim": None}, {}),
        ({"n_shared_experts": None}, {"n_shared_experts": 0}),
        ({"n_group": None, "topk_group": None}, {}),
        ({"num_nextn_predict_layers": None, "num_mtp_layers": 2}, {"num_nextn_predict_layers": 2}),
        ({"num_nextn_predict_layers": 1, "num_mtp_layers": 1}, {"num_nextn_predict_layers": 1}),
        ({"rms_norm_eps": 1, "routed_scaling_factor": 2}, {"rms_norm_eps": 1.0, "routed_scaling_factor": 2.0}),
        ({"first_k_dense_replace": 99}, {"first_k_dense_replace": 99}),
        ({"rope_parameters": None, "rope_theta": 500}, {"rope_theta": 500.0}),
        ({"rope_parameters": None}, {"rope_theta": 10000.0}),
        ({"rope_parameters": YARN | {"truncate": True, "type": "yarn"}}, {"rope_theta": 100.0, "yarn": Yarn(4.0, 64)}),
        ({"rope_parameters": YARN | {"factor": None}}, {"rope_theta": 100.0, "yarn": Yarn(256 / 64, 64)}),
        ({"rope_parameters": {"rope_type": "yarn", "mscale": 1}}, {"yarn": Yarn(1.0, 256, mscale=1.0)}),
        (
            {"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 32, "mscale_all_dim": 0.7}},
            {"yarn": Yarn(8.0, 32, mscale_all_dim=0.7)},
        ),
    ],
    ids=str,
)
def test_other_spellings_of_a_network_are_read(change: dict[str, Any], expected: dict[str, Any]) -> None:
    assert ModelConfig.from_dict(PLAIN | change) == ModelConfig(**{**SMALL, **expected})


@pytest.mark.parametrize("name", ["vocab_size", "kv_lora_rank", "v_head_dim", "n_group", "routed_scaling_factor", "q_lora_rank"])
def test_a_missing_field_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({key: value for key, value in PLAIN.items() if key != name}))
    with pytest.raises(ConfigError, match=f"{name} is missing"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[1, 2]", "one JSON object"),
        (b"null", "one JSON object"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (None, "cannot be read"),
    ],
    ids=["list", "null", "cut", "bytes", "deep", "absent"],
)
def test_a_file_that_is_no_configuration_is_refused(content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_config(tmp_path)


def test_v3_says_how_it_routes() -> None:
    """Some readers create the selection bias only where topk_method asks for it."""
    assert (PLAIN["scoring_func"], PLAIN["topk_method"]) == ("sigmoid", "noaux_tc")


sizes = st.integers(1, 64)
positive = st.floats(1e-9, 1e6)
yarns = st.builds(
    Yarn,
    factor=st.floats(1.0, 64.0),
    original_max_position_embeddings=st.integers(1, 2**17),
    beta_fast=st.floats(8.0, 64.0),
    beta_slow=st.floats(0.1, 8.0),
    mscale=st.none() | st.floats(0.0, 2.0),
    mscale_all_dim=st.none() | st.floats(0.0, 2.0),
    attention_factor=st.none() | st.floats(0.1, 2.0),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([V2, V3, "yarn", "softmax", "greedy"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    groups, width, heads = draw(st.integers(1, 4)), draw(st.integers(2, 6)), draw(st.integers(1, 4))
    kept = draw(st.integers(1, groups))
    grouped: dict[str, Any] = {"n_routed_experts": groups * width, "n_group": groups, "topk_group": kept}
    shapes = {"num_attention_heads": heads, "hidden_size": heads * draw(sizes), "qk_rope_head_dim": 2 * draw(sizes)}
    v3 = {"num_nextn_predict_layers": 2}, {"rope_interleave": False, "norm_topk_prob": False}
    v2 = DEEPSEEK_V2, DEEPSEEK_V2 | {"topk_method": "group_limited_greedy"}
    kind: dict[str, Any] = draw(st.sampled_from([*v3, *v2]))
    switches: dict[str, Any] = {
        "num_experts_per_tok": draw(st.integers(1, kept * width)),
        "q_lora_rank": draw(st.none() | sizes),
        "n_shared_experts": draw(st.integers(0, 3)),
        "first_k_dense_replace": draw(st.integers(0, 9)),
        "routed_scaling_factor": draw(positive | sizes),
        "rms_norm_eps": draw(positive),
        "rope_theta": draw(st.floats(1.5, 1e7)),
        "yarn": draw(st.none() | yarns),
        "attention_bias": draw(st.booleans()),
        "tie_word_embeddings": draw(st.booleans()),
        "initializer_range": draw(st.floats(0, 1)),
        "extra": draw(st.dictionaries(st.sampled_from(["eos_token_id", "torch_dtype", "aux_loss_alpha"]), json_values)),
    }
    plain: dict[str, Any] = {name: draw(sizes) for name in SMALL}
    return ModelConfig(**plain | grouped | shapes | kind | switches)


@given(configs())
def test_writing_and_reading_gives_the_same_configuration(config: ModelConfig) -> None:
    written = config.to_dict()
    assert ModelConfig.from_dict(json.loads(json.dumps(written))).to_dict().keys() == written.keys()
    assert ModelConfig.from_dict(written) == config


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    variant = draw(st.sampled_from(sorted(VARIANTS)))
    content = ModelConfig(**{**SMALL, **VARIANTS[variant]}).to_dict()
    for _ in range(draw(st.integers(1, 3))):
        table = content["rope_parameters"] if isinstance(content.get("rope_parameters"), dict) and draw(st.booleans()) else content
        name = draw(st.sampled_from(sorted(table)) if table else st.text(max_size=8))
        if draw(st.booleans()):
            table[name] = draw(json_values)
        else:
            table.pop(name, None)
    return content


@given(mutated())
@settings(max_examples=300)
def test_a_changed_file_is_a_configuration_or_refused_and_nothing_else(content: dict[str, Any]) -> None:
    try:
        config = ModelConfig.from_dict(content)
    except ConfigError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert ModelConfig.from_dict(config.to_dict()) == config


@given(yarn=yarns, half=st.integers(1, 32), theta=st.floats(1.5, 1e7))
@settings(deadline=None)  # the first call imports transformers
def test_yarns_frequencies_and_factor_are_transformers_own(yarn: Yarn, half: int, theta: float) -> None:
    transformers = pytest.importorskip("transformers")
    rope_utils = pytest.importorskip("transformers.modeling_rope_utils")
    config = ModelConfig(**{**SMALL, **QUERY_LORA, "qk_rope_head_dim": 2 * half, "yarn": yarn, "rope_theta": theta})
    frequencies, factor = rope_utils.ROPE_INIT_FUNCTIONS["yarn"](transformers.DeepseekV3Config(**config.to_dict()))
    assert torch.allclose(_frequencies(config), frequencies, rtol=1e-5, atol=0)
    assert _attention_factor(yarn) == pytest.approx(factor)
