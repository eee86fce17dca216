"""FP8 weights with one scale per block of 128 x 128, as DeepSeek-V3 stores them (technical report, section 3.3; V3.1's `ue8m0`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.checkpoint.matching import SCALE_BLOCK as BLOCK
from model.layers import moves_alone

FP8 = torch.float8_e4m3fn
_LARGEST = 448.0  # of e4m3
QUANTIZATION = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "dynamic"}


def block_count(size: int) -> int:
    """Blocks that cover `size` rows or columns; the last may be a part of one."""
    return -(-size // BLOCK)


def dequantize(weight: Tensor, scale_inv: Tensor, dtype: torch.dtype) -> Tensor:
    """The real weight [M, N]: float8 values times their block's scale_inv [ceil(M / 128), ceil(N / 128)].

    The name is the checkpoints' own: it is a multiplier, float32 or a power of two as float8_e8m0fnu. Products are taken in
    float32 and rounded to `dtype` once.
    """
    rows, columns = weight.shape
    whole = rows // BLOCK
    # Scales are spread over columns alone: one for each element would take as much memory as the weight.
    scales = scale_inv.float().repeat_interleave(BLOCK, 1)[:, :columns]  # [ceil(M / 128), N]
    real = weight.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    real[: whole * BLOCK].view(whole, BLOCK, columns).mul_(scales[:whole, None])
    real[whole * BLOCK :].mul_(scales[whole:])
    return real.to(dtype)


def quantize(weight: Tensor, power_of_two: bool = False) -> tuple[Tensor, Tensor]:
    """float8 values [M, N] and float32 scale_inv [ceil(M / 128), ceil(N / 128)] of a weight [M, N].

    Each block's largest value becomes 448, the largest of e4m3; `power_of_two` rounds the scales up to powers of two, as V3.1 does.
    """
    rows, columns = (block_count(size) for size in weight.shape)
    padded = F.pad(weight.float(), (0, columns * BLOCK - weight.shape[1], 0, rows * BLOCK - weight.shape[0]))
    largest = padded.view(rows, BLOCK, columns, BLOCK).abs().amax((1, 3))
    scale_inv = torch.where(largest > 0, largest / _LARGEST, 1.0)
    if power_of_two:
        scale_inv = torch.exp2(scale_inv.log2().ceil())
    divided = padded.view(rows, BLOCK, columns, BLOCK) / scale_inv[:, None, :, None]
    return divided.view_as(padded)[: weight.shape[0], : weight.shape[1]].to(FP8).contiguous(), scale_inv


class _FrozenLinear(torch.autograd.Function):
    """x times a frozen weight that is made anew for either pass: nothing is kept for the backward pass but the means to make it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Callable[[torch.dtype], Tensor]) -> Tensor:
        ctx.weight = weight
        return F.linear(x, weight(x.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.weight(gradient.dtype), None


class FP8Linear(nn.Module):
    """A frozen projection [out, in] that is held in FP8; activations keep their type."""

    def __init__(self, in_features: int, out_features: int, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight_scale_inv: Tensor
        self.weight = nn.Parameter(torch.empty(out_features, in_features, dtype=FP8), requires_grad=False)
        self.register_buffer("weight_scale_inv", torch.empty(block_count(out_features), block_count(in_features)))
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        out = cast(Tensor, _FrozenLinear.apply(x, self.real_weight))  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.to(x.dtype)

    def real_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight that is applied, [out, in]."""
        return dequantize(self.weight, self.weight_scale_inv, dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(moves_alone(fn, (self.weight, self.weight_scale_inv)), recurse)  # type: ignore[no-untyped-call]
        return self
