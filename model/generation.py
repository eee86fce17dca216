"""Autoregressive generation on the latent cache: greedy, temperature, top-p."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from model.transformer import DeepseekV3


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn; temperature 0 takes the likeliest."""

    temperature: float = 0.0
    top_p: float = 1.0
    eos_token_id: int | None = None
    generator: torch.Generator | None = None


@torch.no_grad()
def generate(net: DeepseekV3, input_ids: Tensor, max_new_tokens: int, sampling: Sampling, attention_mask: Tensor | None = None) -> Tensor:
    """Continues prompts [b, t] by up to max_new_tokens: [b, t + n].

    Prompts of unequal length are padded on the left, with 0 there in attention_mask [b, t]. A row that has produced the
    given end token repeats it; generation stops early only when every row has.
    """
    cache = net.new_cache(len(input_ids), input_ids.shape[1] + max_new_tokens)
    tokens, step, mask = input_ids, input_ids, attention_mask
    done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    for _ in range(max_new_tokens):
        logits = net.lm_head(net.hidden(step, cache, mask).main[:, -1])  # [b, vocab]
        chosen = _draw(logits, sampling)
        if sampling.eos_token_id is not None:
            chosen = chosen.masked_fill(done, sampling.eos_token_id)
            done = done | (chosen == sampling.eos_token_id)
        step = chosen[:, None]
        tokens = torch.cat([tokens, step], 1)
        mask = None if mask is None else torch.cat([mask, torch.ones_like(step)], 1)
        if bool(done.all()):
            break
    return tokens


def _draw(logits: Tensor, sampling: Sampling) -> Tensor:
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.float() / sampling.temperature).softmax(-1)
    ordered, tokens = probabilities.sort(-1, descending=True)
    # The nucleus is the smallest set that reaches top_p, so a token stays while the mass before it is below.
    ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= sampling.top_p, 0.0)
    picked = torch.multinomial(ordered, 1, generator=sampling.generator)
    return tokens.gather(1, picked)[:, 0]
