"""Multi-head latent attention (DeepSeek-V2, section 2.1): expanded for training and prefill, absorbed for decoding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cache import LatentCache
from model.config import ModelConfig
from model.layers import Linear, RMSNorm, Rotation, softmax_scale, typed

LATENT_EPS = 1e-6  # the latent norms ignore rms_norm_eps in every published checkpoint's own code


class MultiHeadLatentAttention(nn.Module):
    """One layer's attention over hidden states [b, t, hidden_size]."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = config.num_attention_heads
        self.nope, self.rope, self.value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        self.rank, self.scale = config.kv_lora_rank, softmax_scale(config)
        hidden, queries = config.hidden_size, self.heads * config.qk_head_dim
        if config.q_lora_rank is None:
            self.q_proj = Linear(hidden, queries, bias=False)
        else:
            self.q_a_proj = Linear(hidden, config.q_lora_rank, bias=config.attention_bias)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank, LATENT_EPS)
            self.q_b_proj = Linear(config.q_lora_rank, queries, bias=False)
        self.kv_a_proj_with_mqa = Linear(hidden, self.rank + self.rope, bias=config.attention_bias)
        self.kv_a_layernorm = RMSNorm(self.rank, LATENT_EPS)
        self.kv_b_proj = Linear(self.rank, self.heads * (self.nope + self.value), bias=False)
        self.o_proj = Linear(self.heads * self.value, hidden, bias=config.attention_bias)

    def forward(self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: LatentCache | None = None) -> Tensor:
        """x [b, t, hidden]; mask [b, 1, t, length] of what may be seen, or None for plain causal attention."""
        q_nope, q_rope = self._queries(x)
        latent, k_rope = self._keys(x)
        rotated = rotation.apply(torch.cat([q_rope, k_rope[:, :, None]], 2))  # [b, t, heads + 1, rope]
        q_rope, k_rope = rotated[:, :, :-1], rotated[:, :, -1]
        if cache is None:
            return self._project(self._expanded(q_nope, q_rope, latent, k_rope, mask))
        past, entries = cache.length, cache.write(self.layer, torch.cat([latent, k_rope], -1))  # [b, past + t, rank + rope]
        if not past:
            return self._project(self._expanded(q_nope, q_rope, latent, k_rope, mask))
        to_key, to_value = cache.absorbed(self.layer, lambda: self._split_heads(self.kv_b_proj.real_weight(latent.dtype)))
        mixed = self._absorbed(torch.cat([_per_head(q_nope, to_key), q_rope], -1), entries, mask)
        return self._project(_per_head(mixed, to_value.transpose(1, 2)))

    def _project(self, attended: Tensor) -> Tensor:
        out: Tensor = self.o_proj(attended.flatten(2))
        return out

    def _queries(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = self.q_proj(x) if hasattr(self, "q_proj") else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        nope, rope = flat.unflatten(-1, (self.heads, -1)).split([self.nope, self.rope], -1)  # [b, t, heads, .]
        return nope, rope

    def _keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latent, rope = self.kv_a_proj_with_mqa(x).split([self.rank, self.rope], -1)  # [b, t, rank], [b, t, rope]
        return self.kv_a_layernorm(latent), rope

    def _expanded(self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, k_rope: Tensor, mask: Tensor | None) -> Tensor:
        kv = self.kv_b_proj(latent).unflatten(-1, (self.heads, -1))  # [b, t, heads, nope + value]
        k_nope, value = kv.split([self.nope, self.value], -1)
        query = torch.cat([q_nope, q_rope], -1).transpose(1, 2)  # [b, heads, t, nope + rope]
        key = torch.cat([k_nope, k_rope[:, :, None].expand(-1, -1, self.heads, -1)], -1).transpose(1, 2)
        # Equal widths let scaled_dot_product_attention take its fast path.
        width = max(self.nope + self.rope, self.value)
        query, key, value = (F.pad(part, (0, width - part.shape[-1])) for part in (query, key, value.transpose(1, 2)))
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None, scale=self.scale)
        return out[..., : self.value].transpose(1, 2)

    def _absorbed(self, query: Tensor, entries: Tensor, mask: Tensor | None) -> Tensor:
        """Attention in latent space: kv_b_proj is folded into query and output, the cache is never expanded.

        query [b, t, heads, rank + rope], entries [b, length, rank + rope] to mixed latents [b, t, heads, rank].
        """
        # Heads and tokens form one dimension: a broadcast product would copy the cache for every head.
        scores = (query.flatten(1, 2) * self.scale) @ entries.transpose(-1, -2)  # [b, t heads, length]
        if mask is not None:
            scores = scores.unflatten(1, (-1, self.heads)).masked_fill(~mask.transpose(1, 2), float("-inf")).flatten(1, 2)
        weights = typed(scores.softmax(-1, dtype=torch.float32), entries.dtype)
        mixed: Tensor = weights @ entries[..., : self.rank]
        return torch.unflatten(mixed, 1, (-1, self.heads))

    def _split_heads(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """kv_b_proj's weight as [heads, nope, rank] for keys and [heads, value, rank] for values."""
        to_key, to_value = weight.view(self.heads, self.nope + self.value, self.rank).split([self.nope, self.value], 1)
        return to_key, to_value


def _per_head(x: Tensor, weight: Tensor) -> Tensor:
    """x [b, t, heads, in] times each head's weight [heads, in, out]: [b, t, heads, out]."""
    batch, length, heads, _ = x.shape
    products = torch.bmm(x.reshape(batch * length, heads, -1).transpose(0, 1), weight)  # [heads, b t, out]
    return products.transpose(0, 1).reshape(batch, length, heads, -1)


def causal_mask(
    length: int, past: int, attention_mask: Tensor | None, device: torch.device, segments: Tensor | None = None
) -> Tensor | None:
    """What each of `length` new tokens may see of `past + length`: [b or 1, 1, length, past + length], or None if plain causal.

    attention_mask [b, past + length] is 0 at left padding; a padded query sees itself, so that no row is empty. segments
    [b, length] numbers the documents of a packed row; it goes with an empty past.
    """
    if attention_mask is None and segments is None and (past == 0 or length == 1):
        return None
    total = past + length
    rows = torch.arange(past, total, device=device)[:, None]
    columns = torch.arange(total, device=device)[None]
    mask = (columns <= rows)[None, None]
    if attention_mask is not None:
        mask = mask & (attention_mask[:, None, None, :].bool() | (columns == rows)[None, None])
    if segments is not None:
        mask = mask & (segments[:, None, :, None] == segments[:, None, None, :])
    return mask
