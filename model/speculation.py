"""Greedy decoding that drafts one token ahead with the MTP module (DeepSeek-V3, section 5.4.3), token for token the plain result."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from model.attention import causal_mask
from model.cache import LatentCache
from model.errors import GenerationError
from model.generation import Sampling
from model.layers import rotation
from model.mtp import MTPModule

if TYPE_CHECKING:
    from model.transformer import DeepseekV3


@torch.no_grad()
def generate_speculatively(
    net: DeepseekV3, input_ids: Tensor, max_new_tokens: int, sampling: Sampling, attention_mask: Tensor | None = None
) -> Tensor:
    """Continues prompts [b, t] as `model.generation.generate` does at temperature 0, with up to two tokens a forward.

    Rows move together: a draft counts only where every unfinished row agrees with its own.
    Raises GenerationError for a network without MTP module and for a temperature.
    """
    _refuse_unless_possible(net, sampling)
    drafter = _Drafter(net, input_ids, max_new_tokens, attention_mask)
    cache = net.new_cache(len(input_ids), input_ids.shape[1] + max_new_tokens)
    output = _Output(input_ids, max_new_tokens, sampling.eos_token_id)
    states = net.hidden(input_ids, cache, attention_mask).main  # [b, t, H]
    if max_new_tokens:
        output.append(net.lm_head(states[:, -1]).argmax(-1))
    while not output.finished():
        draft = drafter.draft(states, output.tokens)
        length = output.tokens.shape[1]
        step = torch.stack([output.tokens[:, -1], draft], 1)  # [b, 2]
        states = net.hidden(step, cache, _extended(attention_mask, length + 1)).main
        chosen = net.lm_head(states).argmax(-1)
        output.append(chosen[:, 0])
        if output.finished():
            break
        if bool(((chosen[:, 0] == draft) | output.done).all()):
            output.append(chosen[:, 1])
        else:
            cache.rewind(length)
            states = states[:, :1]
    return output.tokens


def _refuse_unless_possible(net: DeepseekV3, sampling: Sampling) -> None:
    if sampling.temperature:
        raise GenerationError("speculative generation is greedy: leave the temperature at 0, or speculative off")
    if not len(net.mtp):
        raise GenerationError("speculative generation needs an MTP module and this checkpoint has none: leave speculative off")


class _Output:
    """The tokens so far [b, t] and which rows have produced their end token."""

    def __init__(self, prompt: Tensor, max_new_tokens: int, eos_token_id: int | None) -> None:
        self.tokens, self._end, self._eos = prompt, prompt.shape[1] + max_new_tokens, eos_token_id
        self.done = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)

    def finished(self) -> bool:
        return self.tokens.shape[1] >= self._end or bool(self.done.all())

    def append(self, chosen: Tensor) -> None:
        if self._eos is not None:
            chosen = chosen.masked_fill(self.done, self._eos)
            self.done = self.done | (chosen == self._eos)
        self.tokens = torch.cat([self.tokens, chosen[:, None]], 1)


class _Drafter:
    """The first MTP module on a latent cache of its own, fed only with tokens that are certain, so it never goes back."""

    def __init__(self, net: DeepseekV3, prompt: Tensor, max_new_tokens: int, attention_mask: Tensor | None) -> None:
        module = cast(MTPModule, net.mtp[0])
        weight, layer = net.model.embed_tokens.weight, net.config.num_hidden_layers
        length = prompt.shape[1] + max_new_tokens
        self._net, self._module, self._mask = net, module, attention_mask
        self._cache = LatentCache(net.config, len(prompt), length, weight.dtype, weight.device, range(layer, layer + 1))

    def draft(self, states: Tensor, tokens: Tensor) -> Tensor:
        """The token [b] after `tokens` [b, t]; states [b, n, H] are those of the n positions before the last token that are new."""
        past, new = self._cache.length, states.shape[1]
        embedding = self._net.model.embed_tokens(tokens[:, -new:])  # [b, n, H]
        positions = torch.arange(past, past + new, device=tokens.device)[None]
        turn = rotation(self._net.config, positions, states.dtype)
        mask = causal_mask(new, past, _extended(self._mask, past + new), tokens.device)
        ahead, _ = self._module(states, embedding, turn, mask, self._cache)
        self._cache.advance(new)
        draft: Tensor = self._net.lm_head(ahead[:, -1]).argmax(-1)
        return draft


def _extended(mask: Tensor | None, length: int) -> Tensor | None:
    """The prompt's mask [b, t] with ones for generated tokens, [b, length]."""
    if mask is None:
        return None
    return torch.cat([mask, mask.new_ones(len(mask), max(length - mask.shape[1], 0))], 1)
