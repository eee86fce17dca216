"""Multi-token prediction against transformers' own layers, put together as the checkpoints ask, and against its loss by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.loss import LogitAdjustment
from model.transformer import DeepseekV3
from tests.model.configurations import GROUPS, QUERY_LORA, random_network, random_tokens, relative_error

modeling = pytest.importorskip("transformers.models.deepseek_v3.modeling_deepseek_v3")

CASES: dict[str, dict[str, Any]] = {
    "one": {"num_nextn_predict_layers": 1},
    "two": {"num_nextn_predict_layers": 2, **GROUPS, **QUERY_LORA, "rms_norm_eps": 1e-5},
    "two_tied": {"num_nextn_predict_layers": 2, "tie_word_embeddings": True, "initializer_range": 0.1},
}


class Depth(nn.Module):
    """One MTP module from transformers' parts, its names as ours: after the final norm, embedding first, then one mixture block."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.enorm, self.hnorm = (modeling.DeepseekV3RMSNorm(config.hidden_size, config.rms_norm_eps) for _ in range(2))
        self.eh_proj = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.block = modeling.DeepseekV3DecoderLayer(config, layer_idx=config.first_k_dense_replace)
        self.norm = modeling.DeepseekV3RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden: Tensor, embedding: Tensor, turn: Any) -> Tensor:
        x = self.eh_proj(torch.cat([self.enorm(embedding), self.hnorm(hidden)], -1))
        unseen = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
        out: Tensor = self.norm(self.block(x, attention_mask=unseen[None, None], position_embeddings=turn))
        return out


class Reference(nn.Module):
    """transformers' network with MTP modules behind it; states keep our names, for weights and gradients."""

    def __init__(self, net: DeepseekV3) -> None:
        super().__init__()
        self.main = modeling.DeepseekV3ForCausalLM._from_config(modeling.DeepseekV3Config(**net.config.to_dict()))
        self.mtp = nn.ModuleList(Depth(self.main.config) for _ in net.mtp)
        self.load_state_dict({_theirs(name): tensor for name, tensor in net.state_dict().items()})

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """Logits of depth 0 (the main network), 1, ..., each [b, t - depth, vocab]."""
        hidden, states = self.main.model(tokens).last_hidden_state, []
        for depth, module in enumerate(self.mtp, start=1):
            states.append(hidden)
            embedding = self.main.model.embed_tokens(tokens[:, depth:])
            turn = self.main.model.rotary_emb(embedding, torch.arange(embedding.shape[1])[None])
            hidden = module(hidden[:, :-1], embedding, turn)
        return [self.main.lm_head(state) for state in [*states, hidden]]


def _theirs(name: str) -> str:
    """Our name of a tensor in the reference."""
    if not name.startswith("mtp."):
        return f"main.{name}"
    name = name.replace(".shared_head.norm.", ".norm.")
    depth, part = name.split(".")[1:3]
    own = ("enorm", "hnorm", "eh_proj", "norm")
    return name if part in own else name.replace(f"mtp.{depth}.", f"mtp.{depth}.block.")


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest) -> tuple[DeepseekV3, Reference]:
    net = random_network(**CASES[request.param])
    return net, Reference(net)


@torch.no_grad()
def test_each_depth_is_the_reference(pair: tuple[DeepseekV3, Reference]) -> None:
    net, reference = pair
    tokens = random_tokens(6, 3, 20)
    output, (main, *ahead) = net(tokens), reference(tokens)
    assert relative_error(output.logits, main) < 1e-4
    assert [logits.shape[1] for logits in output.mtp_logits] == [20 - depth for depth in range(1, len(net.mtp) + 1)]
    for ours, theirs in zip(output.mtp_logits, ahead, strict=True):
        assert relative_error(ours, theirs) < 1e-4


def test_loss_and_every_gradient_are_the_references(pair: tuple[DeepseekV3, Reference]) -> None:
    """L = L_main + weight / D * sum over depths k of the mean over its valid tokens; entry i of depth k predicts token i + k + 1."""
    net, reference = pair
    tokens = random_tokens(7, 3, 20)
    targets = tokens.clone()
    targets[0, :9], targets[1, 15:], targets[2, ::2] = -100, -100, -100
    losses = []
    for depth, logits in enumerate(reference(tokens)):
        losses.append(F.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, depth + 1 :].flatten(), ignore_index=-100))
    expected = losses[0] + 0.3 / len(net.mtp) * torch.stack(losses[1:]).sum()
    expected.backward()
    loss = net.loss(tokens, targets, mtp_weight=0.3)
    loss.total.backward()
    assert relative_error(loss.main, losses[0]) < 1e-5
    assert relative_error(loss.mtp, torch.stack(losses[1:]).mean()) < 1e-5
    assert relative_error(loss.total, expected) < 1e-5
    theirs = dict(reference.named_parameters())
    for name, parameter in net.named_parameters():
        gradient = theirs[_theirs(name)].grad
        assert parameter.grad is not None and gradient is not None, name
        assert relative_error(parameter.grad, gradient) < 1e-4, name


def test_an_adjustment_follows_its_targets_to_every_depth() -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(9, 2, 6)
    targets = torch.full_like(tokens, -100)
    targets[0, 1], targets[0, 4], targets[1, 3] = tokens[0, 1], tokens[0, 4], tokens[1, 3]
    adjustment = LogitAdjustment(torch.tensor([0, 1, 2]), torch.tensor([5, 6, 7]), torch.tensor([9.0, 3.0, 4.0]))
    logits = net(tokens).mtp_logits[0].clone()  # entry i predicts token i + 2, so the target at position 1 has no state
    logits[0, 2, 6] += 3.0
    logits[1, 1, 7] += 4.0
    expected = F.cross_entropy(torch.stack([logits[0, 2], logits[1, 1]]), torch.stack([tokens[0, 4], tokens[1, 3]]))
    assert torch.allclose(net.loss(tokens, targets, adjustment=adjustment).mtp, expected, atol=1e-5)


def test_weight_zero_leaves_the_modules_out() -> None:
    net, tokens = random_network(num_nextn_predict_layers=1), random_tokens(10, 2, 12)
    loss = net.loss(tokens, tokens, mtp_weight=0.0)
    loss.total.backward()
    assert torch.equal(loss.total, loss.main)
    assert net.config.num_hidden_layers not in loss.expert_counts
    assert all(parameter.grad is None for parameter in net.mtp.parameters())
