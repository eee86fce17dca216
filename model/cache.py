"""The latent cache of MLA: per token and layer one latent and one shared rotary key, nothing per head."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import torch
from torch import Tensor

from model.config import ModelConfig
from model.errors import GenerationError


class LatentCache:
    """Latents and rotary keys side by side, [layers, b, max_length, kv_lora_rank + qk_rope_head_dim].

    DeepSeek-V2 (2024), section 2.1: this is all that attention needs to see of the past. No gradient flows through it.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        max_length: int,
        dtype: torch.dtype,
        device: torch.device,
        layers: range | None = None,
    ) -> None:
        self._layers = range(config.num_hidden_layers) if layers is None else layers
        shape = (len(self._layers), batch_size, max_length, config.kv_lora_rank + config.qk_rope_head_dim)
        with torch.inference_mode(False):  # whoever reads first decides nothing for those who read later
            self._entries = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0
        self._absorbed: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def nbytes(self) -> int:
        return self._entries.nbytes

    @property
    def rows(self) -> int:
        return self._entries.shape[1]

    @property
    def max_length(self) -> int:
        """Tokens of each row that it has room for."""
        return self._entries.shape[2]

    def require_room(self, rows: int, tokens: int) -> None:
        """Raises GenerationError unless it has that many rows, and room for `tokens` more in each."""
        if self.rows != rows or self.length + tokens > self.max_length:
            raise GenerationError(
                f"the cache has room for {self.rows} rows of {self.max_length} tokens, but {rows} of {self.length + tokens} are asked for: "
                "give a larger one"
            )

    def write(self, layer: int, new: Tensor) -> Tensor:
        """Stores one layer's new entries [b, t, rank + rope] behind the present length; returns all up to there, [b, length + t, ...]."""
        end = self.length + new.shape[1]
        entries = self._entries[self._layers.index(layer)]
        entries[:, self.length : end] = new.detach()
        return entries[:, :end]

    def absorbed(self, layer: int, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """What `make` gives of a layer's weights, made once: they stay as they are as long as what the cache holds is of use."""
        if torch.is_grad_enabled():
            return make()
        if layer not in self._absorbed:
            self._absorbed[layer] = make()
        return self._absorbed[layer]

    def advance(self, tokens: int) -> None:
        """Counts `tokens` as past, once all layers have written them."""
        self.length += tokens

    def rewind(self, length: int) -> None:
        """Forgets what lies behind the first `length` tokens."""
        self.length = length
        if not length:
            self._absorbed = {}

    def prefix(self, length: int, max_length: int) -> LatentCache:
        """A cache of its own with the first `length` tokens and room for `max_length`."""
        shorter = copy(self)
        layers, rows, _, width = self._entries.shape
        shorter._entries = self._entries.new_zeros(layers, rows, max_length, width)
        shorter._entries[:, :, :length] = self._entries[:, :, :length]
        shorter.length, shorter._absorbed = length, {}
        return shorter

    def reorder(self, rows: Tensor) -> None:
        """Keeps the batch rows named by `rows` [b'], in that order; a row may be repeated or left out."""
        self._entries = self._entries.index_select(1, rows)

    def select(self, slots: Tensor) -> None:
        """Keeps of each row the tokens named by `slots` [b, m], in that order, and forgets the others."""
        index = slots[None, :, :, None].expand(len(self._entries), -1, -1, self._entries.shape[-1])
        self._entries[:, :, : slots.shape[1]] = self._entries.gather(2, index)
        self.length = slots.shape[1]
