"""Writing the same function with smaller states, so that adapters and embeddings learn at like speed."""

from __future__ import annotations

import torch

from model.transformer import DeepseekV3


@torch.no_grad()
def rescale_states(net: DeepseekV3, factor: float) -> None:
    """Multiplies the residual stream of a network with tied embeddings by `factor`, in place; logits stay the same.

    Adam moves every weight by about its learning rate whatever the weight's size. Full embeddings share one rate with LoRA
    factors that start at zero, so their size decides how fast they turn; every norm after them removes the factor again.
    """
    net.model.embed_tokens.weight.mul_(factor)
    for name, parameter in net.model.layers.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "experts.down_proj")):
            parameter.mul_(factor)
    if net.config.tie_word_embeddings:
        net.model.norm.weight.div_(factor)
