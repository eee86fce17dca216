"""A weight times one token on all threads of a CPU: PyTorch gives a product of matrix and vector to one thread, a batch of them to all."""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST = 2**16  # elements of a weight below which handing out the work costs more than it saves


def divides(x: Tensor, weight: Tensor) -> bool:
    """Whether `multiply` is the faster way for x [..., in] and weight [out, in], and no gradient is wanted."""
    return (
        x.numel() == x.shape[-1]
        and weight.numel() >= _LEAST
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and weight.shape[0] % torch.get_num_threads() == 0
    )


def multiply(x: Tensor, weight: Tensor, out: Tensor) -> None:
    """Writes x [1, in] times weight [out, in] into out [1, out], a block of the weight's rows for each thread."""
    blocks = torch.get_num_threads()
    parts = weight.view(blocks, -1, weight.shape[1]).transpose(1, 2)
    torch.bmm(x.expand(blocks, 1, -1), parts, out=out.view(blocks, 1, -1))
