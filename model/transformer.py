"""The whole network: embedding, blocks, head, multi-token prediction, and the loss that trains them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.attention import MultiHeadLatentAttention, causal_mask
from model.cache import LatentCache
from model.config import ModelConfig
from model.decoding.generation import Sampling, generate
from model.decoding.speculation import generate_speculatively
from model.layers import MLP, Linear, RMSNorm, Rotation, rotation
from model.moe import MoE
from model.mtp import MTPModule
from model.objective import training_loss
from model.routing import Router, Routing


@dataclass(frozen=True, slots=True)
class Hidden:
    """States before the output head: main [b, t, H] after the final norm, one [b, t - k, H] per depth k, routing per layer."""

    main: Tensor
    mtp: list[Tensor]
    routings: dict[int, Routing]


@dataclass(frozen=True, slots=True)
class Output:
    """logits [b, t, vocab]; mtp_logits[k - 1] [b, t - k, vocab]: entry i of depth k predicts token i + k + 1."""

    logits: Tensor
    mtp_logits: list[Tensor] = field(default_factory=list)


class Block(nn.Module):
    """Pre-norm attention and a dense or mixture MLP."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = MultiHeadLatentAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        dense = layer < config.first_k_dense_replace
        self.mlp: MLP | MoE = MLP(config.hidden_size, config.intermediate_size) if dense else MoE(config)

    def forward(self, x: Tensor, turn: Rotation, mask: Tensor | None, cache: LatentCache | None) -> tuple[Tensor, Routing | None]:
        x = x + self.self_attn(self.input_layernorm(x), turn, mask, cache)
        mixed = self.mlp(self.post_attention_layernorm(x))
        return (x + mixed[0], mixed[1]) if isinstance(mixed, tuple) else (x + mixed, None)


class Decoder(nn.Module):
    """Embedding, blocks and final norm; its name in the network is `model`, as in the checkpoints."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class DeepseekV3(nn.Module):
    """DeepSeek-V3 (arXiv:2412.19437) for training and generation; parameter names are Hugging Face's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.attached: object | None = None  # what model.adapters put on
        self.model = Decoder(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        layers = range(config.num_hidden_layers, config.num_hidden_layers + config.num_nextn_predict_layers)
        self.mtp = nn.ModuleList(MTPModule(config, layer) for layer in layers)
        self.tie_weights()

    def routers(self) -> dict[int, Router]:
        """Layer -> router; MTP module k is layer num_hidden_layers + k."""
        blocks = enumerate([*self.model.layers, *self.mtp])
        return {layer: block.mlp.gate for layer, block in blocks if isinstance(block.mlp, MoE)}

    def tie_weights(self) -> None:
        """Makes the output head the embedding itself where the configuration says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(
        self,
        input_ids: Tensor,
        cache: LatentCache | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Output:
        """input_ids [b, t]; attention_mask [b, past + t] is 0 at left padding; segments [b, t] numbers packed documents.

        With a cache only the main logits are computed.
        """
        hidden = self.hidden(input_ids, cache, attention_mask, position_ids, segments=segments)
        return Output(self.lm_head(hidden.main), [self.lm_head(states) for states in hidden.mtp])

    def hidden(
        self,
        input_ids: Tensor,
        cache: LatentCache | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        segments: Tensor | None = None,
        ahead: bool = True,
        compute_dtype: torch.dtype | None = None,
        checkpointing: bool = False,
    ) -> Hidden:
        """The states that the output head reads; see `forward`. The MTP modules are left out with a cache, or unless `ahead`.

        segments [b, t] numbers the documents of a packed row: no token sees another document's. compute_dtype is the type of
        the activations, by default that in which the network is held. checkpointing keeps the blocks' inputs alone for the
        backward pass (Chen et al. 2016).

        Raises GenerationError if the cache has other rows or lacks room; nothing is read then.
        """
        if cache is not None:
            cache.require_room(*input_ids.shape)
        past, length = (cache.length if cache is not None else 0), input_ids.shape[1]
        if position_ids is None:
            position_ids = _positions(past, length, attention_mask, input_ids.device)
        x = self.model.embed_tokens(input_ids).to(compute_dtype or self.dtype)  # [b, t, H]
        turn = rotation(self.config, position_ids, x.dtype)
        mask = causal_mask(length, past, attention_mask, x.device, segments)
        run = _recomputed if checkpointing else _called
        routings: dict[int, Routing] = {}
        for layer, block in enumerate(self.model.layers):
            x, routing = run(block, x, turn, mask, cache)
            if routing is not None:
                routings[layer] = routing
        main = self.model.norm(x)
        if cache is not None:
            cache.advance(length)
        predicted = self._predict_ahead(main, input_ids, mask, routings, run) if ahead and cache is None else []
        return Hidden(main, predicted, routings)

    def _predict_ahead(
        self, main: Tensor, input_ids: Tensor, mask: Tensor | None, routings: dict[int, Routing], run: Callable[..., Any]
    ) -> list[Tensor]:
        states: list[Tensor] = []
        previous = main
        for depth, module in enumerate(self.mtp, start=1):
            length = input_ids.shape[1] - depth
            if length < 1:
                break
            embedding = self.model.embed_tokens(input_ids[:, depth:]).to(main.dtype)
            turn = rotation(self.config, torch.arange(length, device=main.device)[None], main.dtype)
            seen = None if mask is None else mask[..., :length, :length]
            previous, routings[self.config.num_hidden_layers + depth - 1] = run(module, previous[:, :-1], embedding, turn, seen)
            states.append(previous)
        return states

    loss = training_loss

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the network is held, and computes unless told otherwise; FP8 weights count as their activations' type."""
        attention = cast(Block, self.model.layers[0]).self_attn
        return attention.kv_a_layernorm.weight.dtype  # never adapted, never FP8

    def new_cache(self, batch_size: int, max_length: int) -> LatentCache:
        """An empty latent cache of the network's type and device."""
        return LatentCache(self.config, batch_size, max_length, self.dtype, self.model.embed_tokens.weight.device)

    def generate(
        self,
        input_ids: Tensor,
        max_new_tokens: int,
        *,
        attention_mask: Tensor | None = None,
        eos_token_id: int | Sequence[int] | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        speculative: bool = False,
        draft_tokens: int = 1,
        generator: torch.Generator | None = None,
        cache: LatentCache | None = None,
    ) -> Tensor:
        """Continues left-padded prompts [b, t]: see `model.decoding.generation.generate`; `speculative` drafts with the MTP modules."""
        sampling = Sampling(temperature, top_p, eos_token_id, generator)
        if speculative:
            return generate_speculatively(self, input_ids, max_new_tokens, sampling, attention_mask, cache, draft_tokens).tokens
        return generate(self, input_ids, max_new_tokens, sampling, attention_mask, cache).tokens

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draws every weight from N(0, initializer_range); norms are one, biases zero."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, self.config.initializer_range, generator=generator)


def _called(block: Callable[..., Any], *args: Any) -> Any:
    return block(*args)


def _recomputed(block: Callable[..., Any], *args: Any) -> Any:
    return checkpoint(block, *args, use_reentrant=False, preserve_rng_state=False)  # nothing in a block is random


def _positions(past: int, length: int, attention_mask: Tensor | None, device: torch.device) -> Tensor:
    if attention_mask is None:
        return torch.arange(past, past + length, device=device)[None]
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, past:]
