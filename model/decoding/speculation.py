"""Speculative decoding (Leviathan et al. 2023; Chen et al. 2023): MTP modules draft, one forward of the network verifies.

Greedy tokens are those of plain generation, sampled ones have its distribution. Rows accept independently of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.decoding.acceptance import accept_greedy, accept_sampled
from model.decoding.drafting import Drafter
from model.decoding.generation import Generation, Sampling, check_request, draw, fitting_cache, probabilities
from model.decoding.rows import Rows
from model.decoding.slots import Slots
from model.errors import GenerationError

if TYPE_CHECKING:
    from model.cache import LatentCache
    from model.transformer import DeepseekV3

_SPARE_SLOTS = 64  # for holes, so that the caches of several rows are compacted seldom


@torch.no_grad()
def generate_speculatively(
    net: DeepseekV3,
    input_ids: Tensor,
    max_new_tokens: int,
    sampling: Sampling,
    attention_mask: Tensor | None = None,
    cache: LatentCache | None = None,
    draft_tokens: int = 1,
) -> Generation:
    """Continues prompts [b, t] as `model.decoding.generation.generate` does, with up to draft_tokens + 1 tokens of each row a forward.

    Raises GenerationError as that does, for a network without MTP module, and for a `cache` of several rows.
    """
    check_request(input_ids, max_new_tokens)
    _refuse_unless_possible(net, input_ids, cache, draft_tokens)
    if max_new_tokens == 0:
        return Generation(input_ids)
    holes = 2 * draft_tokens + _SPARE_SLOTS if len(input_ids) > 1 else 0
    cache = fitting_cache(net, input_ids, max_new_tokens + holes, cache)
    count, length = input_ids.shape
    slots = Slots(attention_mask, count, length, length + max_new_tokens + holes, input_ids.device)
    drafter = Drafter(net, slots, sampling, draft_tokens, cache.length)
    decoder = _Decoder(net, cache, slots, drafter, sampling)
    rows = Rows(input_ids, max_new_tokens, draft_tokens, sampling)
    rows.append(*decoder.start(input_ids, attention_mask))
    drafted = 0
    while rows.unfinished:
        drafts = min(draft_tokens, rows.longest - 1)
        drafted += drafts * rows.unfinished
        block, accepted = decoder.step(drafts)
        kept = rows.append(block, accepted)
        decoder.settle(block, kept, rows.width, level=rows.level)
    return Generation(rows.tokens(), drafted, rows.accepted)


def _refuse_unless_possible(net: DeepseekV3, input_ids: Tensor, cache: LatentCache | None, draft_tokens: int) -> None:
    if not len(net.mtp):
        raise GenerationError("speculative generation needs an MTP module and this checkpoint has none: leave speculative off")
    if draft_tokens < 1:
        raise GenerationError(f"draft_tokens is {draft_tokens}: give at least 1")
    if cache is not None and len(input_ids) > 1:
        raise GenerationError(f"speculative generation goes on from a cache of one row only, and the prompt has {len(input_ids)}")


class _Decoder:
    """The network and its drafter, which reads at each step what the step before made certain."""

    def __init__(self, net: DeepseekV3, cache: LatentCache, slots: Slots, drafter: Drafter, sampling: Sampling) -> None:
        self._net, self._cache, self._slots, self._drafter, self._sampling = net, cache, slots, drafter, sampling
        self._certain: tuple[Tensor, Tensor, Tensor]  # main states [b, w, H], the token after each [b, w], each row's last column [b]
        self._states: Tensor  # main states of the last forward
        self._next: Tensor  # the token of each row [b] that the network has not read yet

    def start(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Reads what the cache lacks of the prompts; returns the first new token [b, 1], as a block without drafts."""
        new = input_ids[:, self._cache.length :]
        states = self._net.hidden(new, self._cache, attention_mask).main
        self._next = draw(self._net.lm_head(states[:, -1]), self._sampling)
        followers = torch.cat([new[:, 1:], self._next[:, None]], 1)
        self._certain = (states, followers, torch.full_like(self._next, new.shape[1] - 1))
        return self._next[:, None], torch.zeros_like(self._next)

    def step(self, count: int) -> tuple[Tensor, Tensor]:
        """One forward: the block of tokens [b, count + 1] and how many drafts of it stand [b]; one more token is then certain."""
        drafts, proposals = self._draft(count)
        self._make_room(count)
        mask = self._slots.mask(self._slots.length + count + 1)
        positions = None if mask is None else self._slots.following(count + 1)
        step = torch.cat([self._next[:, None], drafts], 1)
        self._states = self._net.hidden(step, self._cache, mask, positions).main
        accepted, self._next = self._accept(self._net.lm_head(self._states), drafts, proposals)
        block = torch.cat([drafts, self._next[:, None]], 1).scatter_(1, accepted[:, None], self._next[:, None])
        return block, accepted

    def settle(self, block: Tensor, kept: Tensor, width: int, *, level: bool) -> None:
        """Keeps of the last block the first kept[r] tokens of row r, `width` at most and, if `level`, in every row."""
        self._slots.append(kept, width, level=level)
        self._cache.rewind(self._slots.length)
        self._certain = (self._states[:, :width], block[:, :width], (kept - 1).clamp(min=0))

    def _draft(self, count: int) -> tuple[Tensor, Tensor | None]:
        if count == 0:
            return self._next.new_zeros(len(self._next), 0), None
        self._drafter.read(*self._certain)
        return self._drafter.draft(count)

    def _make_room(self, count: int) -> None:
        if len(self._next) > 1 and self._slots.crowded(2 * count + 1):
            kept = self._slots.compact()
            self._cache.select(kept)
            self._drafter.cache.select(kept)

    def _accept(self, logits: Tensor, drafts: Tensor, proposals: Tensor | None) -> tuple[Tensor, Tensor]:
        if self._sampling.temperature == 0:
            return accept_greedy(logits, drafts)
        wanted = probabilities(logits, self._sampling)
        return accept_sampled(wanted, wanted[:, :0] if proposals is None else proposals, drafts, self._sampling.generator)
