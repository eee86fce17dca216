"""transformers with peft computes our adapted network's logits from our file, and we compute peft's from an adapter that peft trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from model.adapters import attach_adapters, load_adapter
from model.checkpoint.saving import save_checkpoint
from model.config import ModelConfig
from model.errors import ReleaseError
from model.export import export_release, open_model
from model.layout import AdapterConfig, AdapterError, adapter_layout
from model.peft.files import CONFIG_FILE, TENSOR_FILE, write_peft_adapter
from model.peft.layout import EMBEDDING, EMBEDDING_A, EMBEDDING_B, LORA_A, LORA_B, PREFIX, PeftAdapter, to_peft
from model.peft.reading import from_peft
from model.transformer import DeepseekV3
from tests.model.configurations import DEEPSEEK_V2, SMALL, VARIANTS, random_network, random_tokens, relative_error

pytestmark = [
    # peft compares patterns with modules alone, and says of those of parameters that it ignored them; it did not.
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match any targeted module:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]
GROUPS = ("attention", "shared_experts", "dense_mlp", "lm_head")
ALL: dict[str, Any] = {"lora_rank": 3, "lora_alpha": 6.0, "expert_rank": 2, "rank_pattern": {"o_proj": 5, "up_proj": 1}}
EXPERTS = {1: (0, 5), 2: (3,)}
ATTENTION = ["q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]
EXPERT_PARAMETERS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
Tensors = dict[str, NDArray[np.float32]]


def random_tensors(config: ModelConfig, adapter: AdapterConfig, experts: Any, seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {t.name: rng.normal(0, 0.1, t.shape).astype(np.float32) for t in adapter_layout(config, adapter, experts)}


def exported(folder: Path, net: DeepseekV3, adapter: AdapterConfig, experts: Any) -> PeftAdapter:
    """Attaches a random adapter, and writes the base and the adapter alone."""
    save_checkpoint(net, folder / "base")
    tensors = random_tensors(net.config, adapter, experts)
    written = to_peft(net.config, adapter, experts, tensors)
    write_peft_adapter(written, folder / "adapter", "base")
    attach_adapters(net, adapter, experts)
    load_adapter(net, tensors)
    return written


def by_peft(folder: Path) -> Any:
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    return PeftModel.from_pretrained(base, folder / "adapter").eval()


CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "all": ("shared", {"targets": GROUPS, **ALL}, EXPERTS),
    "mtp": ("deepseek_v3", {"targets": GROUPS, **ALL}, {**EXPERTS, 3: (1, 2)}),
    "v2": ("deepseek_v2", {"targets": GROUPS, **ALL}, EXPERTS),
    "v2_lite": ("deepseek_v2_lite", {"targets": GROUPS, **ALL}, {1: (7, 1), 2: ()}),
    "v2_tied": ("deepseek_v2_bias", {"targets": GROUPS[:2], **ALL}, {0: (7,)}),
    "tied": ("tied", {"targets": GROUPS[:3], **ALL}, EXPERTS),
    "experts_alone": ("groups", {"targets": (), "expert_rank": 3}, {2: tuple(range(16))}),
    "one_rank": ("plain", {"targets": GROUPS, "lora_rank": 2, "expert_rank": 2}, {1: (3,)}),
    "equal_to_the_fused_rank": ("plain", {"targets": GROUPS, "lora_rank": 4, "expert_rank": 2}, {1: (3,)}),
    "no_experts": ("query_lora_bias", {"targets": GROUPS, **ALL}, {}),
    "dense": ("dense", {"targets": ("dense_mlp",), "lora_rank": 2}, {}),
    "cores": ("yarn", {"targets": (*GROUPS, "embeddings"), "embedding_mode": "lora", "core": True, **ALL}, {}),
    "embeddings": ("deepseek_v3", {"targets": (*GROUPS, "embeddings"), "embedding_mode": "lora", **ALL}, EXPERTS),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_peft_computes_and_merges_our_adapted_network(tmp_path: Path, case: str) -> None:
    variant, fields, experts = CASES[case]
    net, tokens = random_network(**VARIANTS[variant]), random_tokens(1, 2, 9)
    plain = net(tokens).logits
    written = exported(tmp_path, net, AdapterConfig(**fields), experts)
    ours, theirs = net(tokens).logits, by_peft(tmp_path)
    assert relative_error(plain, ours) > 0.1
    assert relative_error(theirs(tokens).logits, ours) < 1e-5
    assert relative_error(theirs.merge_and_unload()(tokens).logits, ours) < 1e-5
    assert not written.shares_head
    assert bool(written.left_out) == (variant == "deepseek_v3") and all(name.startswith("model.layers.3.") for name in written.left_out)


@pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`:UserWarning")
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
@pytest.mark.parametrize("target", ["lm_head", "embeddings"])
@torch.no_grad()
def test_a_tied_head_is_computed_but_not_merged_by_peft(tmp_path: Path, target: str) -> None:
    net, tokens = random_network(**VARIANTS["tied"]), random_tokens(1, 2, 9)
    written = exported(tmp_path, net, AdapterConfig(targets=(target,), embedding_mode="lora"), {})
    ours, theirs = net(tokens).logits, by_peft(tmp_path)
    assert relative_error(theirs(tokens).logits, ours) < 1e-5
    assert written.shares_head and relative_error(theirs.merge_and_unload()(tokens).logits, ours) > 1e-2


@pytest.mark.parametrize(
    ("fields", "experts", "tensor"),
    [
        ({"targets": ("attention", "embeddings")}, {}, "model.embed_tokens.weight is trained in full"),
        ({"targets": ("norms",)}, {}, "input_layernorm.weight is trained in full"),
        ({"expert_mode": "full"}, EXPERTS, "model.layers.1.mlp.experts.0.down_proj.weight is trained in full"),
        ({"targets": ("model.layers.3.eh_proj",)}, {3: (1,)}, "multi-token prediction alone"),
    ],
)
def test_what_peft_cannot_hold_without_base_weights_is_refused(fields: dict[str, Any], experts: Any, tensor: str) -> None:
    config, adapter = ModelConfig(**SMALL, num_nextn_predict_layers=1), AdapterConfig(**fields)
    with pytest.raises(AdapterError, match=tensor):
        to_peft(config, adapter, experts, random_tensors(config, adapter, experts))


@st.composite
def adapters(draw: st.DrawFn) -> tuple[ModelConfig, AdapterConfig, dict[int, tuple[int, ...]]]:
    """A network, and an adapter that holds something beside multi-token prediction."""
    v2, dense = draw(st.booleans()), draw(st.integers(0, 2))
    changes = {"first_k_dense_replace": dense, "q_lora_rank": draw(st.sampled_from([None, 12]))}
    changes |= DEEPSEEK_V2 if v2 else {"num_nextn_predict_layers": draw(st.integers(0, 2))}
    config = ModelConfig(**SMALL | changes)
    groups = [group for group in (*GROUPS, "embeddings") if dense or group != "dense_mlp"]
    targets = draw(st.lists(st.sampled_from(groups), unique=True, min_size=1))
    patterns = draw(st.dictionaries(st.sampled_from(["o_proj", "kv_b_proj", r".*1\.self_attn\..*"]), st.integers(1, 5)))
    layers = st.sampled_from(range(dense, 3 + config.num_nextn_predict_layers))
    experts = draw(st.dictionaries(layers, st.lists(st.integers(0, 7), unique=True).map(sorted).map(tuple)))
    ranks, alpha = st.integers(1, 4), draw(st.floats(0.01, 100))
    given_patterns = patterns if "attention" in targets else {}
    return config, AdapterConfig(draw(ranks), alpha, tuple(targets), given_patterns, "lora", draw(ranks), "auto", "lora"), experts


@settings(deadline=None)
@given(drawn=adapters(), seed=st.integers(0, 9), unmoved=st.booleans())
def test_an_exported_adapter_comes_back_bit_for_bit(drawn: Any, seed: int, unmoved: bool) -> None:
    config, adapter, experts = drawn
    tensors = random_tensors(config, adapter, experts, seed)
    if unmoved:
        tensors = {name: values * ("lora_A" in name) for name, values in tensors.items()}
    written = to_peft(config, adapter, experts, tensors)
    ends = (LORA_A, LORA_B, f"{EMBEDDING}{EMBEDDING_A}", f"{EMBEDDING}{EMBEDDING_B}")
    assert all(name.startswith(PREFIX) and name.endswith(ends) for name in written.tensors)
    found = from_peft(config, json.loads(json.dumps(written.config)), written.tensors)
    expected = {name: values for name, values in tensors.items() if name not in written.left_out}
    assert {name: values.tobytes() for name, values in found.tensors.items()} == {n: v.tobytes() for n, v in expected.items()}
    assert found.experts == {layer: experts[layer] for layer in sorted(experts) if experts[layer] and layer < 3}
    assert found.adapter.lora_alpha == adapter.lora_alpha
    assert all(found.adapter.rank_of(module) == adapter.rank_of(module) for module in found.adapter.targets)
    again = to_peft(config, found.adapter, found.experts, found.tensors)
    assert again.config == written.config and from_peft(config, again.config, again.tensors).adapter == found.adapter


def trained_by_peft(folder: Path, net: DeepseekV3, save_embedding_layers: Any = "auto", **fields: Any) -> torch.Tensor:
    """Trains an adapter by two steps of peft on transformers' model, saves it as peft does, and gives back its logits."""
    torch.manual_seed(0)
    save_checkpoint(net, folder / "base")
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **fields))
    optimiser = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.05)
    for step in range(2):
        optimiser.zero_grad()
        tokens = random_tokens(step, 4, 16)
        adapted(tokens, labels=tokens).loss.backward()
        optimiser.step()
    adapted.save_pretrained(folder / "adapter", save_embedding_layers=save_embedding_layers)
    with torch.no_grad():
        logits: torch.Tensor = adapted.eval()(random_tokens(9, 2, 9)).logits
    return logits


TRAINED: dict[str, dict[str, Any]] = {
    "attention": {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION, "lora_dropout": 0.1},
    "patterns": {"target_modules": ATTENTION, "rank_pattern": {"o_proj": 2}, "alpha_pattern": {"o_proj": 3, r"layers.1.*q_proj": 24}},
    "rank_stabilised": {"r": 6, "target_modules": ATTENTION, "use_rslora": True, "rank_pattern": {"o_proj": 3}},
    "weights": {
        "target_modules": ["kv_b_proj"],
        "target_parameters": ["self_attn.o_proj.weight", "mlp.shared_experts.up_proj.weight"],
        "alpha_pattern": {"o_proj.weight": 3, "up_proj": 5, "kv_b_proj": 7},
    },
    "regular_expression": {"target_modules": r".*layers\.[12]\.self_attn\.(q|o)_proj"},
    "experts": {"r": 3, "lora_alpha": 8, "target_modules": [], "target_parameters": EXPERT_PARAMETERS},
    "experts_down": {"r": 3, "target_modules": [], "target_parameters": EXPERT_PARAMETERS[1:]},
    "experts_by_module": {"r": 2, "lora_alpha": 5, "target_modules": [*ATTENTION, "gate_proj", "up_proj", "down_proj"]},
    "rank_stabilised_experts": {"r": 4, "use_rslora": True, "target_modules": ["o_proj"], "target_parameters": EXPERT_PARAMETERS},
}


@pytest.mark.parametrize("variant", ["groups", "deepseek_v2_bias"])
@pytest.mark.parametrize("case", TRAINED)
def test_an_adapter_that_peft_trained_is_computed_here(tmp_path: Path, case: str, variant: str) -> None:
    net = random_network(**VARIANTS[variant])
    theirs = trained_by_peft(tmp_path, net, **TRAINED[case])
    opened, tokenizer = open_model(tmp_path / "adapter", tmp_path / "base")
    with torch.no_grad():
        assert relative_error(net(random_tokens(9, 2, 9)).logits, theirs) > 1e-2
        assert relative_error(opened(random_tokens(9, 2, 9)).logits, theirs) < 1e-5
    assert tokenizer == tmp_path / "base"


def test_an_adapter_that_peft_trained_is_merged_and_exported(tmp_path: Path) -> None:
    theirs = trained_by_peft(tmp_path, random_network(), **TRAINED["experts"])
    export_release(tmp_path / "adapter", tmp_path / "out", tmp_path / "base")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    with torch.no_grad():
        assert relative_error(merged(random_tokens(9, 2, 9)).logits, theirs) < 1e-5


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning")
@pytest.mark.parametrize("save_embedding_layers", ["auto", False])
def test_the_base_s_head_beside_the_head_s_factors_is_refused(tmp_path: Path, save_embedding_layers: Any) -> None:
    fields = {"r": 4, "target_modules": ["lm_head", "o_proj"]}
    theirs = trained_by_peft(tmp_path, random_network(), save_embedding_layers, **fields)
    if save_embedding_layers == "auto":
        with pytest.raises(AdapterError, match=r"lm_head.base_layer.weight is no LoRA factor .* save_embedding_layers=False"):
            open_model(tmp_path / "adapter", tmp_path / "base")
        return
    opened, _ = open_model(tmp_path / "adapter", tmp_path / "base")
    with torch.no_grad():
        assert relative_error(opened(random_tokens(9, 2, 9)).logits, theirs) < 1e-5


def test_an_embedding_that_peft_trained_is_computed_here(tmp_path: Path) -> None:
    fields = {"r": 3, "lora_alpha": 8, "target_modules": ["embed_tokens", "o_proj"], "rank_pattern": {"embed_tokens": 5}}
    theirs = trained_by_peft(tmp_path, random_network(), False, **fields)
    opened, _ = open_model(tmp_path / "adapter", tmp_path / "base")
    with torch.no_grad():
        assert relative_error(opened(random_tokens(9, 2, 9)).logits, theirs) < 1e-5


@pytest.mark.parametrize("prefix", ["model.layers.1.mlp.experts.", ""])
def test_factors_of_single_experts_and_in_bfloat16_are_read(tmp_path: Path, prefix: str) -> None:
    """As peft saved them on transformers 4, where experts were modules."""
    net, adapter = random_network(), AdapterConfig(targets=("attention",))
    exported(tmp_path, net, adapter, EXPERTS)
    tensors = random_tensors(net.config, adapter, EXPERTS)
    halved = {name: torch.from_numpy(values).bfloat16() for name, values in tensors.items() if name.startswith(prefix)}
    save_file({PREFIX + name: values for name, values in halved.items()}, tmp_path / "adapter" / TENSOR_FILE)
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ATTENTION}
    (tmp_path / "adapter" / CONFIG_FILE).write_text(json.dumps(config))
    load_adapter(net, {name: halved[name].float().numpy() if name in halved else values * 0 for name, values in tensors.items()})
    opened, _ = open_model(tmp_path / "adapter", tmp_path / "base")
    with torch.no_grad():
        assert relative_error(opened(random_tokens(9, 2, 9)).logits, net(random_tokens(9, 2, 9)).logits) < 1e-5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"use_dora": True}, "use_dora is True"),
        ({"lora_bias": True}, "lora_bias is True"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\]"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices is"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"of_a_later_version": {"depth": 2}}, "of_a_later_version is"),
        ({"r": 0}, "r is 0"),
        ({"lora_alpha": "much"}, "lora_alpha is 'much'"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern: Pattern '\\(' is not a regular expression"),
        ({"alpha_pattern": {"(?i)q_proj": 1}}, "is not a regular expression"),
        ({"alpha_pattern": {"a{99999999999}": 1}}, "is not a regular expression"),
        ({"alpha_pattern": {r"(\w+\.?)+!": 1}}, "repeats more than a module's name asks for"),
        ({"alpha_pattern": {"(.|.)" * 30 + "!": 1}}, "repeats more than a module's name asks for"),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "alpha_pattern is"),
        ({"r": 10**400, "use_rslora": True}, "r is 1000"),
    ],
)
def test_other_methods_are_refused_by_field(change: dict[str, Any], sentence: str) -> None:
    config, adapter = ModelConfig(**SMALL), AdapterConfig()
    written = to_peft(config, adapter, EXPERTS, random_tensors(config, adapter, EXPERTS))
    with pytest.raises(AdapterError, match=sentence):
        from_peft(config, written.config | change, written.tensors)


HEAD = f"{PREFIX}lm_head"
STACK = f"{PREFIX}model.layers.1.mlp.experts"
FAR = f"{PREFIX}model.layers.{'9' * 5000}.mlp.experts"  # a number that Python refuses to read


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({f"{HEAD}.base_layer.weight": (96, 32)}, "lm_head.base_layer.weight is no LoRA factor"),
        ({f"{PREFIX}model.embed_tokens.lora_embedding_A": (8, 96)}, "lora_embedding_A is no LoRA factor"),
        ({f"{PREFIX}model.layers.1.mlp.gate.lora_A.weight": (8, 32), f"{PREFIX}model.layers.1.mlp.gate.lora_B.weight": (8, 8)}, "mlp.gate"),
        ({f"{HEAD}{LORA_B}": None}, "lm_head one LoRA factor is missing"),
        ({f"{HEAD}{LORA_B}": (96, 7)}, "lm_head have different ranks"),
        ({f"{HEAD}{LORA_B}": (95, 8)}, r"lm_head.lora_B.weight has shape \(95, 8\)"),
        ({f"{HEAD}{LORA_A}": (8,)}, r"lm_head.lora_A.weight has shape \[8\]"),
        ({f"{STACK}{LORA_A}": (63, 16), f"{STACK}{LORA_B}": (32, 63)}, "mlp.experts have shapes"),
        ({f"{FAR}{LORA_A}": (16, 32), f"{FAR}{LORA_B}": (32, 16)}, "names nothing in this network"),
        ({f"{STACK}.0.up_proj{LORA_A}": (1, 32), f"{STACK}.0.up_proj{LORA_B}": (16, 1)}, "adapts up_proj a second time"),
    ],
)
def test_tensors_that_are_no_adapter_of_this_network_are_refused(change: dict[str, Any], sentence: str) -> None:
    config, adapter = ModelConfig(**SMALL), AdapterConfig()
    written = to_peft(config, adapter, EXPERTS, random_tensors(config, adapter, EXPERTS))
    changed = written.tensors | {name: np.ones(shape or 0, np.float32) for name, shape in change.items()}
    kept = {name: values for name, values in changed.items() if change.get(name, ()) is not None}
    with pytest.raises(AdapterError, match=sentence):
        from_peft(config, written.config, kept)


def test_an_adapter_that_cannot_be_opened_is_refused_in_one_sentence(tmp_path: Path) -> None:
    exported(tmp_path, random_network(), AdapterConfig(targets=("attention",)), {})
    with pytest.raises(ReleaseError, match="give --base PATH"):
        open_model(tmp_path / "adapter")
    (tmp_path / "adapter" / TENSOR_FILE).write_bytes(b"no tensors")
    with pytest.raises(ReleaseError, match="holds no adapter that peft has saved"):
        open_model(tmp_path / "adapter", tmp_path / "base")
    (tmp_path / "adapter" / TENSOR_FILE).unlink()
    with pytest.raises(ReleaseError, match="adapter_model.safetensors cannot be read"):
        open_model(tmp_path / "adapter", tmp_path / "base")


def test_the_file_holds_the_factors_alone(tmp_path: Path) -> None:
    written = exported(tmp_path, random_network(), AdapterConfig(targets=GROUPS), EXPERTS)
    stored = load_file(tmp_path / "adapter" / TENSOR_FILE)
    assert stored.keys() == written.tensors.keys()
    assert [path.name for path in sorted((tmp_path / "adapter").iterdir())] == [CONFIG_FILE, TENSOR_FILE]
    with pytest.raises(ReleaseError, match="not empty"):
        write_peft_adapter(written, tmp_path / "adapter", "base")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["adapter", "base"]
