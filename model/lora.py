"""LoRA on a projection (Hu et al. 2021): base x + (lora_alpha / r) B A x, with A and B in float32 whatever the base's type."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import Projection


def low_rank(x: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:  # noqa: N803
    """scaling * B A x: x [..., in], lora_A [r, in], lora_B [out, r] to [..., out], computed in the type of x."""
    return F.linear(F.linear(x, lora_A.to(x.dtype)) * scaling, lora_B.to(x.dtype))


class LoRAPair(nn.Module):
    """The two factors, zero until they are loaded."""

    def __init__(self, shape: tuple[int, int], rank: int, scaling: float, device: torch.device | None = None) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.zeros(rank, shape[1], device=device))
        self.lora_B = nn.Parameter(torch.zeros(shape[0], rank, device=device))
        self.scaling = scaling

    def forward(self, x: Tensor) -> Tensor:
        return low_rank(x, self.lora_A, self.lora_B, self.scaling)

    def rows(self, indices: Tensor) -> Tensor:
        """Rows of the difference, [..., in], float32, without the others."""
        return F.linear(F.embedding(indices, self.lora_B) * self.scaling, self.lora_A.T)

    def delta(self) -> Tensor:
        """The difference to the base's weight, [out, in], float32."""
        return self.lora_B @ self.lora_A * self.scaling


class LoRALinear(nn.Module):
    """A frozen projection and the pair that is trained on it."""

    def __init__(self, base: Projection, rank: int, lora_alpha: float) -> None:
        super().__init__()
        self.base, self.in_features, self.out_features = base, base.in_features, base.out_features
        self.pair = LoRAPair((base.out_features, base.in_features), rank, lora_alpha / rank, base.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + self.pair(x)
        return out

    def real_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight that the pair makes of the base's, [out, in]; summed in float32."""
        return (self.base.real_weight(torch.float32) + self.pair.delta()).to(dtype)


class LoRAEmbedding(nn.Module):
    """A frozen embedding [V, H] and the pair that is trained on its lookup: A [r, H], B [V, r]. A head tied to it stays the base's."""

    def __init__(self, base: nn.Embedding, rank: int, lora_alpha: float) -> None:
        super().__init__()
        self.base = base
        self.pair = LoRAPair((base.num_embeddings, base.embedding_dim), rank, lora_alpha / rank, base.weight.device)

    @property
    def weight(self) -> Tensor:
        """The base's."""
        return self.base.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """input_ids [...] to [..., H], summed in float32."""
        looked_up: Tensor = self.base(input_ids)
        return looked_up.float() + self.pair.rows(input_ids)

    def real_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight that the pair makes of the base's, [V, H]; summed in float32."""
        return (self.base.weight.float() + self.pair.delta()).to(dtype)
