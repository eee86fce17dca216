"""The whole network: embedding, blocks, head, multi-token prediction, and the loss that trains them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from model.attention import MultiHeadLatentAttention, causal_mask
from model.cache import LatentCache
from model.config import ModelConfig
from model.generation import Sampling, generate
from model.layers import MLP, RMSNorm, Rotation, rotation
from model.loss import IGNORED, LogitAdjustment, Loss, cross_entropy, select_targets
from model.moe import MoE
from model.mtp import MTPModule
from model.routing import Router, Routing, balance_loss
from model.speculation import generate_speculatively


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
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
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
    ) -> Output:
        """input_ids [b, t]; attention_mask [b, past + t] is 0 at left padding. With a cache only the main logits are computed."""
        hidden = self.hidden(input_ids, cache, attention_mask, position_ids)
        return Output(self.lm_head(hidden.main), [self.lm_head(states) for states in hidden.mtp])

    def hidden(
        self,
        input_ids: Tensor,
        cache: LatentCache | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        ahead: bool = True,
    ) -> Hidden:
        """The states that the output head reads; see `forward`. The MTP modules are left out with a cache, or unless `ahead`."""
        past, length = (cache.length if cache is not None else 0), input_ids.shape[1]
        if position_ids is None:
            position_ids = _positions(past, length, attention_mask, input_ids.device)
        x = self.model.embed_tokens(input_ids)  # [b, t, H]
        turn = rotation(self.config, position_ids, x.dtype)
        mask = causal_mask(length, past, attention_mask, x.device)
        routings: dict[int, Routing] = {}
        for layer, block in enumerate(self.model.layers):
            x, routing = block(x, turn, mask, cache)
            if routing is not None:
                routings[layer] = routing
        main = self.model.norm(x)
        if cache is not None:
            cache.advance(length)
        predicted = self._predict_ahead(main, input_ids, routings) if ahead and cache is None else []
        return Hidden(main, predicted, routings)

    def _predict_ahead(self, main: Tensor, input_ids: Tensor, routings: dict[int, Routing]) -> list[Tensor]:
        states: list[Tensor] = []
        previous = main
        for depth, module in enumerate(self.mtp, start=1):
            if input_ids.shape[1] <= depth:
                break
            embedding = self.model.embed_tokens(input_ids[:, depth:])
            positions = torch.arange(embedding.shape[1], device=main.device)[None]
            turn = rotation(self.config, positions, main.dtype)
            previous, routings[self.config.num_hidden_layers + depth - 1] = module(previous[:, :-1], embedding, turn)
            states.append(previous)
        return states

    def loss(
        self,
        input_ids: Tensor,
        targets: Tensor,
        *,
        valid: Tensor | None = None,
        mtp_weight: float = 0.3,
        balance_weight: float = 0.0,
        adjustment: LogitAdjustment | None = None,
    ) -> Loss:
        """Mean cross entropy of targets [b, t]: the token at each position, or -100 where it is not to be learnt.

        The state of position p - 1 predicts the target at p. MTP depth k adds mtp_weight / D times its own mean
        (DeepSeek-V3, equation 25); with weight 0 the modules are not run.
        `valid` [b, t] says which tokens are not padding, for the expert counts.
        """
        hidden = self.hidden(input_ids, ahead=mtp_weight > 0)
        states, wanted = select_targets(hidden.main, targets, 1)
        main = cross_entropy(states, self.lm_head, wanted, adjustment) / max(len(wanted), 1)
        zero = main.new_zeros(())
        ahead = [self._mtp_loss(states, targets, depth, adjustment) for depth, states in enumerate(hidden.mtp, start=1)]
        mtp = torch.stack(ahead).mean() if ahead else zero
        balance = torch.stack([balance_loss(r, len(input_ids)) for r in hidden.routings.values()]).sum() if balance_weight else zero
        return Loss(
            total=main + mtp_weight * mtp + balance_weight * balance,
            main=main,
            mtp=mtp,
            balance=balance,
            expert_counts=expert_counts(hidden.routings, valid),
            target_tokens=len(wanted),
        )

    def _mtp_loss(self, states: Tensor, targets: Tensor, depth: int, adjustment: LogitAdjustment | None) -> Tensor:
        selected, wanted = select_targets(states, targets, depth + 1)
        if adjustment is not None:
            positions = (targets[:, 1:] != IGNORED).nonzero()[:, 1] + 1  # of the main loss's targets, in its order
            adjustment = adjustment.subset(positions > depth)
        return cross_entropy(selected, self.lm_head, wanted, adjustment) / max(len(wanted), 1)

    def new_cache(self, batch_size: int, max_length: int) -> LatentCache:
        """An empty latent cache of the network's type and device."""
        weight = self.model.embed_tokens.weight
        return LatentCache(self.config, batch_size, max_length, weight.dtype, weight.device)

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
        """Continues left-padded prompts [b, t]: see `model.generation.generate`; `speculative` drafts with the MTP modules."""
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


def expert_counts(routings: dict[int, Routing], valid: Tensor | None) -> dict[int, Tensor]:
    """Tokens that each expert of each layer got, [E] int64; `valid` [b, t] leaves out padding."""
    return {layer: r.counts(None if valid is None else routed_tokens(r, valid)) for layer, r in routings.items()}


def routed_tokens(routing: Routing, valid: Tensor) -> Tensor:
    """Which of the n routed tokens are not padding, [n]; an MTP depth routes the later tokens of `valid` [b, t] only."""
    covered = len(routing.scores) // len(valid)
    return valid[:, valid.shape[1] - covered :].flatten()


def _positions(past: int, length: int, attention_mask: Tensor | None, device: torch.device) -> Tensor:
    if attention_mask is None:
        return torch.arange(past, past + length, device=device)[None]
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, past:]
