"""The training loss of a network: next tokens, tokens further ahead, and the balance of the experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from model.loss import LogitAdjustment, Loss, TargetCounts, count_targets, cross_entropy, select_targets, wanted
from model.routing import Routing, balance_loss, expert_counts, routed_tokens

if TYPE_CHECKING:
    from model.transformer import DeepseekV3, Hidden


def training_loss(
    net: DeepseekV3,
    input_ids: Tensor,
    targets: Tensor,
    *,
    valid: Tensor | None = None,
    attention_mask: Tensor | None = None,
    segments: Tensor | None = None,
    mtp_weight: float = 0.3,
    balance_weight: float = 0.0,
    adjustment: LogitAdjustment | None = None,
    whole: TargetCounts | None = None,
    compute_dtype: torch.dtype | None = None,
    checkpointing: bool = False,
) -> Loss:
    """Mean cross entropy of targets [b, t]: the token at each position, or -100 where it is not to be learnt.

    The state of position p - 1 predicts the target at p. MTP depth k adds mtp_weight / D times its own mean
    (DeepSeek-V3, equation 25); with weight 0 the modules are not run. `valid` [b, t] says which tokens are not padding, for
    the experts' counts and balance; `attention_mask` is needed where padding is on the left. For `whole` see
    `TargetCounts`; for the others see `DeepseekV3.hidden`.
    """
    hidden = net.hidden(
        input_ids,
        attention_mask=attention_mask,
        segments=segments,
        ahead=mtp_weight > 0,
        compute_dtype=compute_dtype,
        checkpointing=checkpointing,
    )
    counts = whole or count_targets(targets, segments, len(net.mtp))
    states, tokens = select_targets(hidden.main, targets, 1, segments)
    main = cross_entropy(states, net.lm_head, tokens, adjustment) / max(counts.tokens[0], 1)
    mtp = _mtp_loss(net, hidden, targets, segments, adjustment, counts) if hidden.mtp else main.new_zeros(())
    balance = main.new_zeros(())
    if balance_weight:
        balance = _balance(hidden.routings, len(input_ids), valid) * (len(input_ids) / counts.sequences)
    return Loss(
        total=main + mtp_weight * mtp + balance_weight * balance,
        main=main,
        mtp=mtp,
        balance=balance,
        expert_counts=expert_counts(hidden.routings, valid),
        target_tokens=len(tokens),
    )


def _mtp_loss(
    net: DeepseekV3, hidden: Hidden, targets: Tensor, segments: Tensor | None, adjustment: LogitAdjustment | None, counts: TargetCounts
) -> Tensor:
    """The mean over the modules of each one's mean."""
    means = []
    for depth, states in enumerate(hidden.mtp, start=1):
        selected, tokens = select_targets(states, targets, depth + 1, segments)
        kept = None if adjustment is None else adjustment.subset(also_ahead(targets, depth, segments))
        means.append(cross_entropy(selected, net.lm_head, tokens, kept) / max(counts.tokens[depth], 1))
    return torch.stack(means).sum() / len(net.mtp)


def also_ahead(targets: Tensor, depth: int, segments: Tensor | None) -> Tensor:
    """Which of the main loss's targets, in its order, are targets of an MTP depth too."""
    return F.pad(wanted(targets, depth + 1, segments), (depth, 0))[wanted(targets, 1, segments)]


def _balance(routings: dict[int, Routing], sequences: int, valid: Tensor | None) -> Tensor:
    """The sum over layers."""
    layers = [balance_loss(r, sequences, None if valid is None else routed_tokens(r, valid)) for r in routings.values()]
    return torch.stack(layers).sum()
