"""A weight times a few tokens on all threads of a CPU: PyTorch gives so thin a product to one thread, but a batch of them to all."""

from __future__ import annotations

import torch
from torch import Tensor

FEW = 4  # rows: a token to decode, or a draft of a few to verify
_LEAST = 2**16  # elements of a weight below which handing out the work costs more than it saves


def divides(x: Tensor, weight: Tensor) -> bool:
    """Whether `multiply` is the faster way for x [..., in] and weight [out, in], and no gradient is wanted."""
    return (
        weight.numel() >= _LEAST
        and 0 < x.numel() <= FEW * x.shape[-1]
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and torch.get_num_threads() > 1
        and weight.shape[0] % torch.get_num_threads() == 0
    )


def multiply(x: Tensor, weight: Tensor, out: Tensor) -> None:
    """Writes x [m, in] times weight [out, in] into out [m, out], a block of the weight's rows for each thread."""
    blocks = torch.get_num_threads()
    parts = weight.view(blocks, -1, weight.shape[1]).transpose(1, 2)
    if len(x) == 1:
        torch.bmm(x.expand(blocks, 1, -1), parts, out=out.view(blocks, 1, -1))
    else:
        out.view(len(x), blocks, -1).copy_(torch.bmm(x.expand(blocks, *x.shape), parts).transpose(0, 1))
