"""LoRA on a projection (Hu et al. 2021): base x + (lora_alpha / r) B A x, with A and B in float32 whatever the base's type.

With a core (LoRA-SB and Fed-SB, arXiv:2502.15436) it is B R A, of which R [r, r] is trained.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import Projection

FactorName: TypeAlias = Literal["lora_A", "lora_B", "lora_R"]


def low_rank(x: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float, lora_R: Tensor | None = None) -> Tensor:  # noqa: N803
    """scaling * B A x, or B R A x: x [..., in], A [r, in], R [r, r], B [out, r] to [..., out], computed in the type of x."""
    inner = F.linear(x, lora_A.to(x.dtype))
    if lora_R is not None:
        inner = F.linear(inner, lora_R.to(x.dtype))
    return F.linear(inner * scaling, lora_B.to(x.dtype))


class LoRAPair(nn.Module):
    """The two factors, and the core between them if there is one; zero until they are loaded.

    After `hold` the parameters are the leading slices alone, which nothing but their own training moves; `factor` puts them together
    with the others.
    """

    def __init__(self, shape: tuple[int, int], rank: int, scaling: float, device: torch.device | None = None, core: bool = False) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.zeros(rank, shape[1], device=device))
        self.lora_B = nn.Parameter(torch.zeros(shape[0], rank, device=device))
        self.lora_R = nn.Parameter(torch.zeros(rank, rank, device=device)) if core else None
        self.scaling = scaling
        for name in ("lora_A", "lora_B", "lora_R"):
            self.register_buffer(f"whole_{name}", None, persistent=False)  # while slices are held: the factor, for its other slices

    def forward(self, x: Tensor) -> Tensor:
        core = None if self.lora_R is None else self.factor("lora_R")
        return low_rank(x, self.factor("lora_A"), self.factor("lora_B"), self.scaling, core)

    def rows(self, indices: Tensor) -> Tensor:
        """Rows of the difference, [..., in], float32, without the others."""
        return F.linear(F.embedding(indices, self.factor("lora_B")) * self.scaling, self._inner().T)

    def delta(self) -> Tensor:
        """The difference to the base's weight, [out, in], float32."""
        return self.factor("lora_B") @ self._inner() * self.scaling

    def factor(self, name: FactorName) -> Tensor:
        """A [r, in], B [out, r] or R [r, r], whole; a gradient reaches the slices that are held."""
        held, whole = self._parts(name)
        if whole is None:
            return held
        joined = whole.clone()
        joined[_leading(held)] = held
        return joined

    @torch.no_grad()
    def set_factor(self, name: FactorName, values: Tensor) -> None:
        """Copies a whole factor."""
        held, whole = self._parts(name)
        held.copy_(values[_leading(held)])
        if whole is not None:
            whole.copy_(values)

    @torch.no_grad()
    def hold(self, rank: int | None) -> None:
        """Makes the leading `rank` slices the parameters: rows of A, columns of B, the leading block of R; None makes it all of them."""
        for name, index in _held_slices(rank).items():
            if getattr(self, name) is None:
                continue
            whole = self.factor(name)
            held, narrowed = self._parts(name)[0], whole[index]
            if narrowed.shape != held.shape:
                setattr(self, name, nn.Parameter(narrowed.clone()))
            setattr(self, f"whole_{name}", whole.clone() if narrowed.shape != whole.shape else None)

    def _parts(self, name: FactorName) -> tuple[nn.Parameter, Tensor | None]:
        return getattr(self, name), getattr(self, f"whole_{name}")

    def _inner(self) -> Tensor:
        """A, or R A: [r, in]."""
        return self.factor("lora_A") if self.lora_R is None else self.factor("lora_R") @ self.factor("lora_A")


def _held_slices(rank: int | None) -> dict[FactorName, tuple[slice, ...]]:
    leading, every = slice(rank), slice(None)
    return {"lora_A": (leading, every), "lora_B": (every, leading), "lora_R": (leading, leading)}


def _leading(part: Tensor) -> tuple[slice, ...]:
    """Where of a larger tensor a leading part lies."""
    return tuple(slice(size) for size in part.shape)


class LoRALinear(nn.Module):
    """A frozen projection and the factors that is trained on it."""

    def __init__(self, base: Projection, rank: int, lora_alpha: float, core: bool = False) -> None:
        super().__init__()
        self.base, self.in_features, self.out_features = base, base.in_features, base.out_features
        self.pair = LoRAPair((base.out_features, base.in_features), rank, lora_alpha / rank, base.weight.device, core)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + self.pair(x)
        return out

    def real_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight that the pair makes of the base's, [out, in]; summed in float32."""
        return (self.base.real_weight(torch.float32) + self.pair.delta()).to(dtype)


class LoRAEmbedding(nn.Module):
    """A frozen embedding [V, H] and the pair that is trained on its lookup: A [r, H], B [V, r]. A head tied to it stays the base's."""

    def __init__(self, base: nn.Embedding, rank: int, lora_alpha: float, core: bool = False) -> None:
        super().__init__()
        self.base = base
        self.pair = LoRAPair((base.num_embeddings, base.embedding_dim), rank, lora_alpha / rank, base.weight.device, core)

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
