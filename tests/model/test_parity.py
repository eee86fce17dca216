"""Logits, loss, every gradient and greedy tokens equal transformers' own DeepseekV3 and DeepseekV2, in every configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.attention import MultiHeadLatentAttention
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.naming import disk_tensors
from model.checkpoint.saving import save_checkpoint
from model.transformer import DeepseekV3
from tests.model.configurations import VARIANTS, random_network, random_tokens, relative_error

transformers = pytest.importorskip("transformers")
# transformers builds a shared MLP of no rows where n_shared_experts is 0.
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")


@dataclass(frozen=True, slots=True)
class Pair:
    """Our network, the directory that we wrote, and transformers' reading of it."""

    ours: DeepseekV3
    directory: Path
    theirs: Any


@pytest.fixture(scope="module", params=VARIANTS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    ours, directory = random_network(**VARIANTS[request.param]), tmp_path_factory.mktemp(request.param) / "ours"
    save_checkpoint(ours, directory)
    return Pair(ours, directory, transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32))


def test_logits_loss_and_every_gradient(pair: Pair) -> None:
    tokens = random_tokens(1, 3, 40)
    targets = tokens.clone()
    targets[:, :5] = -100
    expected = pair.theirs(input_ids=tokens, labels=targets)
    expected.loss.backward()
    loss = pair.ours.loss(tokens, targets, mtp_weight=0.0)
    loss.total.backward()
    assert relative_error(pair.ours(tokens).logits, expected.logits) < 1e-4
    assert relative_error(loss.main, expected.loss) < 1e-4
    ours, theirs = gradients(pair.ours), gradients(pair.theirs)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert relative_error(ours[name], gradient) < 1e-4, name


def test_greedy_tokens(pair: Pair) -> None:
    tokens = random_tokens(2, 2, 9)
    expected = pair.theirs.generate(tokens, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert torch.equal(pair.ours.generate(tokens, 12), expected)


@torch.no_grad()
def test_token_by_token_on_the_cache_is_the_full_forward(pair: Pair) -> None:
    tokens = random_tokens(4, 2, 12)
    cache = pair.ours.new_cache(2, 12)
    parts = [pair.ours(part, cache=cache).logits for part in tokens.split([4, *[1] * 8], dim=1)]
    assert relative_error(torch.cat(parts, 1), pair.theirs(tokens).logits) < 1e-4


@torch.no_grad()
def test_left_padding_changes_nothing(pair: Pair) -> None:
    tokens = random_tokens(3, 3, 13)
    mask = torch.ones_like(tokens)
    for row, padding in enumerate((0, 4, 9)):
        mask[row, :padding] = 0
    padded, theirs = pair.ours(tokens, attention_mask=mask), pair.theirs(tokens, attention_mask=mask)
    assert relative_error(padded.logits[mask.bool()], theirs.logits[mask.bool()]) < 1e-4
    assert relative_error(padded.logits[2, 9:], pair.ours(tokens[2:, 9:]).logits[0]) < 1e-4
    alone = pair.ours.generate(tokens[1:2, 4:], 6)
    assert torch.equal(pair.ours.generate(tokens, 6, attention_mask=mask)[1, 4:], alone[0])


def test_save_load_save_is_bit_equal(pair: Pair, tmp_path: Path) -> None:
    save_checkpoint(load_checkpoint(pair.directory), tmp_path / "again")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (pair.directory / name).read_bytes()


def test_a_sharded_directory_of_theirs_is_read(pair: Pair, tmp_path: Path) -> None:
    pair.theirs.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    again = load_checkpoint(tmp_path)
    # transformers keeps the count of MTP modules and drops their weights.
    assert replace(again.config, extra={}) == replace(pair.ours.config, num_nextn_predict_layers=0)
    ours = {name: tensor for name, tensor in disk_tensors(pair.ours) if not _is_mtp(name, pair.ours)}
    theirs = dict(disk_tensors(again))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.mark.parametrize("variant", ["deepseek_v3", "deepseek_v2", "moonlight"])
def test_the_hubs_older_field_names_are_the_same_network(variant: str, tmp_path: Path) -> None:
    ours, tokens = random_network(**VARIANTS[variant]), random_tokens(6, 2, 30)
    save_checkpoint(ours, tmp_path)
    hub = json.loads((tmp_path / "config.json").read_text())
    rope = hub.pop("rope_parameters")
    hub |= {"rope_theta": rope.pop("rope_theta"), "ep_size": 1, "moe_layer_freq": 1, "aux_loss_alpha": 0.001, "seq_aux": True}
    hub |= {"rope_scaling": {"type": rope.pop("rope_type"), **rope} if rope.keys() - {"rope_type"} else None}
    for name in ("rope_interleave", "head_dim", "qk_head_dim"):
        hub.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(hub))
    again = load_checkpoint(tmp_path)
    assert torch.equal(again(tokens).logits, ours(tokens).logits)
    assert replace(again.config, extra={}) == ours.config and again.config.extra["aux_loss_alpha"] == 0.001
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert relative_error(again(tokens).logits, theirs(tokens).logits) < 1e-4


@torch.no_grad()
def test_latent_norms_ignore_rms_norm_eps(tmp_path: Path) -> None:
    ours, tokens = random_network(rms_norm_eps=1e-5, q_lora_rank=12), random_tokens(7, 2, 30)
    attention = [module for module in ours.modules() if isinstance(module, MultiHeadLatentAttention)]
    for layer in attention:  # latents so small that an epsilon shows
        layer.kv_a_proj_with_mqa.weight[: layer.rank] *= 1e-3
        layer.q_a_proj.weight *= 1e-3
    save_checkpoint(ours, tmp_path / "ours")
    expected = transformers.DeepseekV3ForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32)(tokens).logits
    assert relative_error(ours(tokens).logits, expected) < 1e-4
    for layer in attention:
        layer.kv_a_layernorm.eps = layer.q_a_layernorm.eps = 1e-5
    assert relative_error(ours(tokens).logits, expected) > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("variant", ["dense", "groups", "deepseek_v3", "deepseek_v2_lite"])
def test_bfloat16_is_as_exact_as_theirs(variant: str, tmp_path: Path) -> None:
    """Errors of the logits against float32 on the same weights; a token's median does not see the rare other choice of an expert."""
    errors: list[torch.Tensor] = []
    for seed in range(4):
        directory, tokens = tmp_path / str(seed), random_tokens(seed, 4, 40)
        save_checkpoint(random_network(seed, **VARIANTS[variant]).to(torch.bfloat16), directory)
        wide = load_checkpoint(directory, dtype=torch.float32)(tokens).logits
        ours = load_checkpoint(directory)(tokens).logits
        theirs = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)(tokens).logits
        assert ours.dtype == torch.bfloat16 and relative_error(ours.float(), wide) < 0.15
        errors.append(torch.stack([(narrow.float() - wide).norm(dim=-1) / wide.norm(dim=-1) for narrow in (ours, theirs)]))
    ours, theirs = torch.cat(errors, 1).flatten(1).median(1).values
    assert ours < 0.02 and ours < 1.1 * theirs


def gradients(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None and parameter.numel()}


def _is_mtp(name: str, net: DeepseekV3) -> bool:
    layers = net.config.num_hidden_layers
    return any(name.startswith(f"model.layers.{layer}.") for layer in range(layers, layers + len(net.mtp)))
