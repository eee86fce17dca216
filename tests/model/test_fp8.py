"""FP8 weights: exact at the edges of blocks, the same logits and gradients as their real weights, and nothing else in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.adapters import attach_adapters, load_adapter, merge_adapters, set_trainable
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.fp8 import FP8, FP8Linear, dequantize, quantize
from model.layout import AdapterConfig, AdapterError, adapter_layout, expert_layers, initial_adapter
from model.moe import Experts
from model.transformer import DeepseekV3
from tests.model.checkpoint.stored import to_fp8
from tests.model.configurations import SMALL, random_network, random_tokens

# 130 and 136 rows are 1.02 and 1.06 blocks; gate and up are 144 wide, so that the two do not meet at the edge of a block.
SIZES: dict[str, Any] = {
    "hidden_size": 130,
    "intermediate_size": 200,
    "moe_intermediate_size": 144,
    "kv_lora_rank": 128,
    "q_lora_rank": 24,
    "attention_bias": True,
    "num_nextn_predict_layers": 1,
}
SHAPES = st.tuples(st.integers(1, 300), st.integers(1, 300))
SETTINGS = {
    "fp32_scales": {},
    "power_of_two_scales": {"power_of_two": True},
    "e8m0_scales": {"power_of_two": True, "as_e8m0": True},
}


def _by_block(weight: Tensor, scale_inv: Tensor) -> Tensor:
    """The definition, one block after the other."""
    real, scales = weight.float(), scale_inv.float()
    for row in range(0, weight.shape[0], 128):
        for column in range(0, weight.shape[1], 128):
            real[row : row + 128, column : column + 128] *= scales[row // 128, column // 128]
    return real


def _uneven(seed: int, *shape: int) -> Tensor:
    """Weights whose size differs from place to place, so that a wrong block shows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * torch.rand(shape, generator=generator).pow(4).cumsum(0).cumsum(1)


@given(SHAPES, st.booleans())
def test_dequantised_weights_follow_the_definition(shape: tuple[int, int], e8m0: bool) -> None:
    weight, scale_inv = quantize(_uneven(0, *shape), power_of_two=e8m0)
    stored = scale_inv.to(torch.float8_e8m0fnu) if e8m0 else scale_inv
    assert torch.equal(dequantize(weight, stored, torch.float32), _by_block(weight, scale_inv))
    assert torch.equal(dequantize(weight, stored, torch.bfloat16), _by_block(weight, scale_inv).bfloat16())


@given(SHAPES, st.booleans())
def test_quantised_weights_are_as_near_as_e4m3_allows(shape: tuple[int, int], power_of_two: bool) -> None:
    real = _uneven(1, *shape)
    weight, scale_inv = quantize(real, power_of_two)
    steps = torch.ones_like(weight.float()).to(FP8)
    allowed = torch.maximum(real.abs() * 2**-4, dequantize(steps, scale_inv, torch.float32) * 2**-10)  # normal and subnormal values
    assert ((dequantize(weight, scale_inv, torch.float32) - real).abs() <= allowed * 1.001).all()
    if power_of_two:
        assert torch.equal(scale_inv.log2(), scale_inv.log2().round())


def test_a_zero_block_stays_zero() -> None:
    weight, scale_inv = quantize(torch.zeros(130, 5))
    assert not dequantize(weight, scale_inv, torch.float32).any()


@pytest.fixture(params=SETTINGS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint as DeepSeek stores it: projections in FP8, router, norms, embedding and head not."""
    net = random_network(**SIZES)
    with torch.no_grad():
        for index, parameter in enumerate(net.parameters()):
            if parameter.dim() > 1:
                parameter.mul_(_uneven(index, *parameter.shape[-2:]).abs().clamp(max=4) * 0.3 + 0.3)
    save_checkpoint(net, tmp_path / "fp8")
    to_fp8(tmp_path / "fp8", lambda name: name.endswith(("_proj.weight", "_mqa.weight")), **SETTINGS[request.param])
    return tmp_path / "fp8"


def _reference(directory: Path) -> DeepseekV3:
    """The network of the weights that the loop above makes of the stored ones."""
    tensors = load_file(directory / "model.safetensors")
    real = {
        name: _by_block(values, tensors[name + "_scale_inv"]) if values.dtype == FP8 else values
        for name, values in tensors.items()
        if not name.endswith("_scale_inv")
    }
    config = json.loads((directory / "config.json").read_text())
    del config["quantization_config"]
    plain = directory.with_name("plain")
    plain.mkdir()
    save_file(real, plain / "model.safetensors")
    (plain / "config.json").write_text(json.dumps(config))
    return load_checkpoint(plain)


def test_the_network_has_the_logits_and_gradients_of_its_real_weights(stored: Path) -> None:
    net, reference, tokens = load_checkpoint(stored), _reference(stored), random_tokens(1, 2, 24)
    assert isinstance(net.get_submodule("model.layers.1.self_attn.kv_a_proj_with_mqa"), FP8Linear)
    torch.testing.assert_close(net(tokens).logits, reference(tokens).logits, rtol=1e-5, atol=1e-5)
    for one in (net, reference):
        one.loss(tokens, tokens).total.backward()
    trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    expected = dict(reference.named_parameters())
    assert {"model.embed_tokens.weight", "model.layers.1.mlp.gate.weight", "model.layers.0.self_attn.q_a_proj.bias"} < trained.keys()
    for name, parameter in trained.items():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-6, msg=name)
    assert all(parameter.grad is None for parameter in net.parameters() if parameter.dtype == FP8)


def test_decoding_with_a_cache_uses_the_real_weights(stored: Path) -> None:
    tokens = random_tokens(2, 2, 9)
    assert torch.equal(load_checkpoint(stored).generate(tokens, 8), _reference(stored).generate(tokens, 8))


def test_loading_as_another_type_dequantises(stored: Path) -> None:
    net, reference = load_checkpoint(stored, torch.float32), _reference(stored)
    for name, tensor in reference.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor), name
    assert net.state_dict().keys() == reference.state_dict().keys()
    half, name = load_checkpoint(stored, torch.bfloat16), "model.layers.1.mlp.experts.down_proj"
    assert torch.equal(half.get_parameter(name), reference.get_parameter(name).bfloat16())


def test_fp8_weights_stay_frozen_and_as_they_are_when_the_network_changes_type(stored: Path) -> None:
    net = load_checkpoint(stored)
    held = {name: tensor.clone() for name, tensor in net.state_dict().items() if tensor.dtype == FP8 or "scale_inv" in name}
    net.to(torch.bfloat16)
    for name, tensor in held.items():
        assert tensor.dtype == net.state_dict()[name].dtype
        assert torch.equal(tensor.float(), net.state_dict()[name].float())
    assert net.lm_head.weight.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in net.parameters() if not parameter.requires_grad} == {FP8}
    assert net(random_tokens(3, 1, 8)).logits.dtype == torch.bfloat16


def test_nothing_dequantised_is_kept_for_the_backward_pass() -> None:
    layer = FP8Linear(300, 200, nn.Parameter(torch.zeros(200)))
    layer.weight.data, layer.weight_scale_inv = quantize(_uneven(2, 200, 300))
    x = torch.randn(4, 300, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda _: pytest.fail("a tensor was saved"), lambda tensor: tensor):
        out = layer(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(4, 200) @ _by_block(layer.weight, layer.weight_scale_inv))
    assert layer.bias is not None and layer.bias.grad is not None


def test_an_expert_s_gate_and_up_have_blocks_of_their_own(stored: Path) -> None:
    experts, reference = (
        cast(Experts, net.get_submodule("model.layers.1.mlp.experts")) for net in (load_checkpoint(stored), _reference(stored))
    )
    assert experts.gate_up_scale_inv.shape == (SMALL["n_routed_experts"], 2 * 2, 2)
    for expert in range(SMALL["n_routed_experts"]):
        assert torch.equal(experts.weight("gate_up_proj", expert, torch.float32), reference.gate_up_proj[expert])
        assert torch.equal(experts.weight("down_proj", expert, torch.float32), reference.down_proj[expert])


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_adapters_train_on_fp8_as_on_the_real_weights(stored: Path, mode: Literal["lora", "full"]) -> None:
    adapter, tokens = AdapterConfig(expert_mode=mode), random_tokens(4, 2, 24)
    gradients = []
    for net in (load_checkpoint(stored), _reference(stored)):
        experts: dict[int, tuple[int, ...]] = dict.fromkeys(expert_layers(net.config), (0, 3))
        layout = adapter_layout(net.config, adapter, experts)
        attach_adapters(net, adapter, experts)
        start = initial_adapter(layout, 0)
        for name in start:
            start[name] += 0.01 * name.endswith("lora_B.weight")
        load_adapter(net, start)
        set_trainable(net, start.keys())
        net.loss(tokens, tokens, checkpointing=True).total.backward()
        gradients.append({name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 50
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(("targets", "experts", "held"), [(("attention",), {}, "self_attn"), ((), {2: (1,)}, "model.layers.2.mlp")])
def test_an_adapter_on_fp8_weights_is_not_merged(tmp_path: Path, targets: tuple[str, ...], experts: Any, held: str) -> None:
    save_checkpoint(random_network(), tmp_path / "base")
    to_fp8(tmp_path / "base", lambda name: name.endswith("_proj.weight"))
    net = load_checkpoint(tmp_path / "base")
    attach_adapters(net, AdapterConfig(targets=targets), experts)
    with pytest.raises(AdapterError, match=f"{held}.* is held in FP8"):
        merge_adapters(net)
    assert net.attached is not None
