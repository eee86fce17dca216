"""How many drafts of speculative decoding would stand on test records: the multi-token prediction module against the network's own choice.

Greedy and teacher-forced: every token before a draft is the record's own. One forward of each record is all it costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from client.batches import collate
from client.dataset import Example
from client.evaluation import by_length
from client.work import DraftSums
from model.loss import IGNORED, LOGITS
from model.transformer import DeepseekV3


@torch.inference_mode()
def accepted_drafts(net: DeepseekV3, examples: Sequence[Example]) -> DraftSums:
    """Drafts of the first module that are the network's likeliest token, of all: one for every learnt token after another learnt one.

    The first token of an answer is never drafted, because a draft needs the one before it.
    """
    accepted = drafted = 0
    for batch in by_length(examples):
        tensors = collate(batch, net.model.embed_tokens.weight.device)
        hidden = net.hidden(tensors.input_ids)
        learnt = tensors.targets != IGNORED
        places = learnt[:, 1:-1] & learnt[:, 2:]  # entry i: token i + 2, drafted from state i and token i + 1
        if places.any():
            drafts = _likeliest(net, hidden.mtp[0][:, :-1][places])
            accepted += int((drafts == _likeliest(net, hidden.main[:, 1:-1][places])).sum())
            drafted += len(drafts)
    return DraftSums(accepted, drafted)


def _likeliest(net: DeepseekV3, states: Tensor) -> Tensor:
    """Tokens [n] of states [n, H], a part of the logits at a time."""
    return torch.cat([net.lm_head(part).argmax(-1) for part in states.split(max(1, LOGITS // net.lm_head.out_features))])
