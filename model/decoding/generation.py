"""Autoregressive generation on the latent cache: greedy, temperature, top-p."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from model.errors import GenerationError

if TYPE_CHECKING:
    from model.cache import LatentCache
    from model.transformer import DeepseekV3


LEAST_TEMPERATURE = 0.001  # below it logits overflow


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn, and which tokens end a row; temperature 0 takes the likeliest.

    Raises GenerationError for a temperature below LEAST_TEMPERATURE that is not 0, and a top_p outside (0, 1].
    """

    temperature: float = 0.0
    top_p: float = 1.0
    eos_token_id: int | Sequence[int] | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if not (self.temperature == 0 or LEAST_TEMPERATURE <= self.temperature < math.inf):
            raise GenerationError(
                f"temperature is {self.temperature}: give 0 for the likeliest token, or at least {LEAST_TEMPERATURE} to draw"
            )
        if not 0 < self.top_p <= 1:
            raise GenerationError(f"top_p is {self.top_p}: give more than 0 and at most 1")

    def ends(self, device: torch.device) -> Tensor | None:
        """The end tokens [e], or None."""
        if self.eos_token_id is None:
            return None
        return torch.tensor([self.eos_token_id] if isinstance(self.eos_token_id, int) else list(self.eos_token_id), device=device)


@dataclass(frozen=True, slots=True)
class Generation:
    """Prompts with their continuations [b, t + n], and how many drafted tokens were verified and how many of them accepted."""

    tokens: Tensor
    drafted: int = 0
    accepted: int = 0

    @property
    def acceptance(self) -> float | None:
        """Accepted drafts of all; None without drafts."""
        return self.accepted / self.drafted if self.drafted else None


@torch.no_grad()
def generate(
    net: DeepseekV3,
    input_ids: Tensor,
    max_new_tokens: int,
    sampling: Sampling,
    attention_mask: Tensor | None = None,
    cache: LatentCache | None = None,
) -> Generation:
    """Continues prompts [b, t] by up to max_new_tokens.

    Prompts of unequal length are padded on the left, with 0 there in attention_mask [b, t]. A row that has produced an
    end token repeats it; generation stops early only when every row has. A `cache` holds the first tokens of
    input_ids already; afterwards it holds all tokens but the last. Raises GenerationError if it does not fit, for a prompt
    without tokens, and for a negative max_new_tokens.
    """
    rows, length = input_ids.shape
    check_request(input_ids, max_new_tokens)
    cache = fitting_cache(net, input_ids, max_new_tokens, cache)
    tokens = F.pad(input_ids, (0, max_new_tokens))
    mask = None if attention_mask is None else F.pad(attention_mask, (0, max_new_tokens), value=1)
    ends, done = sampling.ends(tokens.device), torch.zeros(rows, dtype=torch.bool, device=tokens.device)
    start = cache.length
    for end in range(length, length + max_new_tokens):
        states = net.hidden(tokens[:, start:end], cache, None if mask is None else mask[:, :end]).main
        chosen = draw(net.lm_head(states[:, -1]), sampling)
        tokens[:, end] = chosen if ends is None else torch.where(done, tokens[:, end - 1], chosen)
        start = end
        if ends is not None:
            done |= torch.isin(chosen, ends)
            if bool(done.all()):
                return Generation(tokens[:, : end + 1])
    return Generation(tokens)


def check_request(input_ids: Tensor, max_new_tokens: int) -> None:
    """Raises GenerationError for prompts [b, t] without tokens, and for a negative max_new_tokens."""
    if not input_ids.numel():
        raise GenerationError("the prompt holds no token: give one at least")
    if max_new_tokens < 0:
        raise GenerationError(f"max_new_tokens is {max_new_tokens}: give 0 or more")


def fitting_cache(net: DeepseekV3, input_ids: Tensor, further: int, cache: LatentCache | None) -> LatentCache:
    """The given cache, or a new one, for `input_ids` [b, t] and `further` tokens.

    Raises GenerationError if the given one has other rows, lacks room, or holds the whole prompt: its last token must be read.
    """
    rows, length = input_ids.shape
    if cache is None:
        return net.new_cache(rows, length + further)
    cache.require_room(rows, length + further - cache.length)
    if cache.length >= length:
        raise GenerationError(f"the cache holds {cache.length} tokens and the prompt has {length}: rewind it to {length - 1} at most")
    return cache


def draw(logits: Tensor, sampling: Sampling) -> Tensor:
    """One token for each row of logits [b, vocab]: [b]."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial(probabilities(logits, sampling), 1, generator=sampling.generator)[:, 0]


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """What tokens are drawn from, float32 [..., vocab]: after the temperature, within the nucleus (Holtzman et al. 2020)."""
    full = (logits.float() / sampling.temperature).softmax(-1)
    if sampling.top_p == 1:
        return full
    ordered, tokens = full.sort(-1, descending=True)
    # The nucleus is the smallest set that reaches top_p, so a token stays while the mass before it is below.
    ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= sampling.top_p, 0.0)
    return torch.zeros_like(full).scatter_(-1, tokens, ordered / ordered.sum(-1, keepdim=True))
