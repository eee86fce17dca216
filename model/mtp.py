"""A multi-token prediction module (DeepSeek-V3, section 2.2): one more block that predicts one token further ahead."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.attention import MultiHeadLatentAttention
from model.cache import LatentCache
from model.config import ModelConfig
from model.layers import Linear, RMSNorm, Rotation
from model.moe import MoE
from model.routing import Routing


class SharedHead(nn.Module):
    """The norm before the main model's output head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class MTPModule(nn.Module):
    """Depth k: from the previous depth's state of token i and the embedding of token i + k to a state that predicts i + k + 1.

    The hidden state enters after the final norm (of the main model, or of the depth before), as the released weights were fitted.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.enorm = RMSNorm(hidden, eps)
        self.hnorm = RMSNorm(hidden, eps)
        self.eh_proj = Linear(2 * hidden, hidden, bias=False)
        self.input_layernorm = RMSNorm(hidden, eps)
        self.self_attn = MultiHeadLatentAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(hidden, eps)
        self.mlp = MoE(config)
        self.shared_head = SharedHead(config)

    def forward(
        self, hidden: Tensor, embedding: Tensor, rotation: Rotation, mask: Tensor | None = None, cache: LatentCache | None = None
    ) -> tuple[Tensor, Routing]:
        """hidden [b, t, H] of tokens i, embedding [b, t, H] of tokens i + k; returns [b, t, H] for the output head."""
        x = self.eh_proj(torch.cat([self.enorm(embedding), self.hnorm(hidden)], -1))
        x = x + self.self_attn(self.input_layernorm(x), rotation, mask, cache)
        mixed, routing = self.mlp(self.post_attention_layernorm(x))
        return self.shared_head.norm(x + mixed), routing
