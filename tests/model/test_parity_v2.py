"""DeepSeek-V2's layout: the hub's own configuration is read, no selection bias is stored, and what is ambiguous is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.config import V2, ModelConfig, Yarn, read_config
from model.errors import ConfigError
from tests.model.configurations import DEEPSEEK_V2, VARIANTS, random_network, random_tokens, relative_error

transformers = pytest.importorskip("transformers")

V2_LITE: dict[str, Any] = {  # config.json of DeepSeek-V2-Lite, in full
    "architectures": ["DeepseekV2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV2Config"},
    "aux_loss_alpha": 0.001,
    "bos_token_id": 100000,
    "eos_token_id": 100001,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 10944,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v2",
    "moe_intermediate_size": 1408,
    "moe_layer_freq": 1,
    "n_group": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 27,
    "num_key_value_heads": 16,
    "pretraining_tp": 1,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "greedy",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.33.1",
    "use_cache": True,
    "v_head_dim": 128,
    "vocab_size": 102400,
}
SCALED_DOWN = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "kv_lora_rank": 16,
    "moe_intermediate_size": 16,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "vocab_size": 96,
}
LEGACY = ("aux_loss_alpha", "seq_aux", "moe_layer_freq", "pretraining_tp", "torch_dtype", "auto_map", "bos_token_id", "eos_token_id")


def test_the_hubs_configuration_is_read_and_its_other_fields_are_kept() -> None:
    config = ModelConfig.from_dict(V2_LITE)
    assert (config.architecture, config.scoring_func, config.topk_method) == (V2, "softmax", "greedy")
    assert config.yarn == Yarn(40.0, 4096, mscale=0.707, mscale_all_dim=0.707) and config.rope_theta == 10000.0
    assert (config.n_shared_experts, config.q_lora_rank, config.num_nextn_predict_layers, config.norm_topk_prob) == (2, None, 0, False)
    written = config.to_dict()
    assert {name: written[name] for name in LEGACY} == {name: V2_LITE[name] for name in LEGACY}
    assert written["architectures"] == [V2] and written["model_type"] == "deepseek_v2"
    assert not written.keys() & {"num_nextn_predict_layers", "rope_interleave", "rope_scaling", "rope_theta"}
    assert ModelConfig.from_dict(written) == config


def test_a_checkpoint_of_theirs_with_the_hubs_configuration_gives_their_logits(tmp_path: Path) -> None:
    ours = random_network(**VARIANTS["deepseek_v2_lite"])
    save_checkpoint(ours, tmp_path)
    hub = V2_LITE | SCALED_DOWN | {"torch_dtype": "float32"}
    del hub["auto_map"]  # points at code beside the file
    (tmp_path / "config.json").write_text(json.dumps(hub))
    tokens = random_tokens(1, 2, 30)
    theirs = transformers.DeepseekV2ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert relative_error(load_checkpoint(tmp_path)(tokens).logits, theirs(tokens).logits) < 1e-4
    assert torch.equal(load_checkpoint(tmp_path)(tokens).logits, ours(tokens).logits)


def test_no_selection_bias_is_stored(tmp_path: Path) -> None:
    save_checkpoint(random_network(**VARIANTS["deepseek_v2"]), tmp_path / "v2")
    names = load_file(tmp_path / "v2" / "model.safetensors").keys()
    assert any(name.endswith("mlp.gate.weight") for name in names)
    assert not any("e_score_correction_bias" in name for name in names)


@pytest.mark.parametrize(
    "groups", [{"n_group": None, "topk_group": None}, {"n_group": 1, "topk_group": None}, {"n_group": 1, "topk_group": 1}]
)
def test_null_groups_are_one_group(groups: dict[str, Any]) -> None:
    config = ModelConfig.from_dict(V2_LITE | groups | {"topk_method": "group_limited_greedy"})
    assert (config.n_group, config.topk_group) == (1, 1)


def test_greedy_routing_ignores_groups(tmp_path: Path) -> None:
    ours = random_network(**DEEPSEEK_V2, n_group=4, topk_group=1, num_experts_per_tok=4)
    save_checkpoint(ours, tmp_path / "v2")
    theirs = transformers.DeepseekV2ForCausalLM.from_pretrained(tmp_path / "v2", dtype=torch.float32)
    tokens = random_tokens(2, 2, 20)
    assert relative_error(ours(tokens).logits, theirs(tokens).logits) < 1e-4
    assert read_config(tmp_path / "v2").n_group == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_topk_prob": True}, "norm_topk_prob must be false"),
        ({"mlp_bias": True}, "mlp_bias must be false"),
        ({"moe_layer_freq": 2}, "moe_layer_freq must be 1"),
        ({"scoring_func": "sigmoid"}, "scoring_func must be softmax"),
        ({"topk_method": "noaux_tc"}, "topk_method must be greedy or group_limited_greedy"),
        ({"num_nextn_predict_layers": 1}, "num_nextn_predict_layers must be 0"),
        ({"rope_interleave": False}, "rope_interleave must be true"),
        ({"model_type": "deepseek_v3"}, "model_type"),
        ({"architectures": ["DeepseekV3ForCausalLM"]}, "model_type"),
        ({"num_attention_heads": 15, "num_key_value_heads": 15}, "num_attention_heads must divide hidden_size"),
        ({"n_group": 8, "topk_group": None, "topk_method": "group_limited_greedy"}, "topk_group is null"),
    ],
)
def test_what_v2_does_not_have_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(V2_LITE | change)
