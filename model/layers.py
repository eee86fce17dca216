"""RMSNorm, rotary positions and the gated MLP: the parts that every block shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import few_rows
from model.config import ModelConfig, Yarn


class Projection(Protocol):
    """A linear map, however its weight is held: plainly, in FP8 blocks, or with LoRA beside it."""

    weight: Tensor
    in_features: int
    out_features: int

    def __call__(self, x: Tensor) -> Tensor: ...

    def real_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight that is applied, [out, in]."""


def typed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in that type. Asking first is several times as fast as `Tensor.to`, which decoding would call hundreds of times."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def moves_alone(fn: Callable[[Tensor], Tensor], held: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
    """`fn` of a module's `_apply`, by which the `held` tensors change device but never type: `net.to(dtype)` must not round them."""
    kept = tuple(held)

    def move(tensor: Tensor) -> Tensor:
        moved = fn(tensor)
        rounded = moved.dtype != tensor.dtype and any(tensor is one for one in kept)
        return tensor.to(moved.device) if rounded else moved

    return move


class Linear(nn.Linear):
    """A projection that computes in the type of its input, so that float32 master weights serve bfloat16 activations."""

    def forward(self, x: Tensor) -> Tensor:
        weight = typed(self.weight, x.dtype)
        bias: Tensor | None = self.bias
        if bias is not None:
            return F.linear(x, weight, typed(bias, x.dtype))
        if not few_rows.divides(x, weight):
            return F.linear(x, weight)
        out = x.new_empty(*x.shape[:-1], self.out_features)
        few_rows.multiply(x.reshape(-1, self.in_features), weight, out.view(-1, self.out_features))
        return out

    def real_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight [out, in]."""
        return self.weight.to(dtype)


class RMSNorm(nn.Module):
    """Root mean square norm (Zhang and Sennrich 2019): statistics in float32, weight applied in the model's type."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return F.rms_norm(x, self.weight.shape, typed(self.weight, x.dtype), self.eps)
        normed = F.rms_norm(x.float(), self.weight.shape, eps=self.eps)
        return typed(self.weight, x.dtype) * normed.to(x.dtype)


class MLP(nn.Module):
    """down(silu(gate x) * (up x))."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


@dataclass(frozen=True, slots=True)
class Rotation:
    """Cosines and sines of the rotary angles, [b or 1, t, rope_dim / 2]."""

    cos: Tensor
    sin: Tensor
    interleave: bool

    def apply(self, x: Tensor) -> Tensor:
        """Rotates x [b, t, ..., rope_dim]; the result is in half-split order, which leaves dot products unchanged."""
        first, second = (x[..., 0::2], x[..., 1::2]) if self.interleave else x.chunk(2, -1)
        shape = (*self.cos.shape[:2], *(1,) * (x.dim() - 3), self.cos.shape[-1])
        cos, sin = self.cos.view(shape), self.sin.view(shape)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def rotation(config: ModelConfig, position_ids: Tensor, dtype: torch.dtype) -> Rotation:
    """The rotation of positions [b or 1, t] (Su et al. 2021; YaRN: Peng et al. 2023)."""
    frequencies = _frequencies(config).to(position_ids.device)
    angles = position_ids[..., None].float() * frequencies  # [b, t, rope_dim / 2]
    scale = _attention_factor(config.yarn) if config.yarn else 1.0
    return Rotation((angles.cos() * scale).to(dtype), (angles.sin() * scale).to(dtype), config.rope_interleave)


def softmax_scale(config: ModelConfig) -> float:
    """1 / sqrt(qk_head_dim), times the square of YaRN's magnitude where `mscale_all_dim` is set."""
    scale = config.qk_head_dim**-0.5
    if config.yarn and config.yarn.mscale_all_dim:
        scale *= _magnitude(config.yarn.factor, config.yarn.mscale_all_dim) ** 2
    return float(scale)


def _magnitude(factor: float, mscale: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _attention_factor(yarn: Yarn) -> float:
    if yarn.attention_factor is not None:
        return yarn.attention_factor
    if yarn.mscale and yarn.mscale_all_dim:
        return _magnitude(yarn.factor, yarn.mscale) / _magnitude(yarn.factor, yarn.mscale_all_dim)
    return _magnitude(yarn.factor)


def _frequencies(config: ModelConfig) -> Tensor:
    dim, base = config.qk_rope_head_dim, config.rope_theta
    plain = 1.0 / base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)  # [dim / 2]
    if config.yarn is None:
        return plain
    low, high = (_correction_dim(config, config.yarn, beta) for beta in (config.yarn.beta_fast, config.yarn.beta_slow))
    start, end = max(math.floor(low), 0), min(math.ceil(high), dim - 1)
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - start) / (end - start or 1e-3)).clamp(0, 1)
    return plain / config.yarn.factor * ramp + plain * (1 - ramp)


def _correction_dim(config: ModelConfig, yarn: Yarn, rotations: float) -> float:
    ratio = yarn.original_max_position_embeddings / (rotations * 2 * math.pi)
    return config.qk_rope_head_dim * math.log(ratio) / (2 * math.log(config.rope_theta))
