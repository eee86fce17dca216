"""An adapted network of every kind of trained tensor, and batches of records of different lengths for it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from model.adapters import attach_adapters, load_adapter, set_trainable
from model.layout import AdapterConfig, adapter_layout
from model.loss import IGNORED, LogitAdjustment
from model.training import Batch
from model.transformer import DeepseekV3
from tests.model.configurations import random_network, random_tokens

PARTS = ("attention", "shared_experts", "dense_mlp", "lm_head", "norms", "embeddings")
EXPERTS = {1: (0, 5), 2: (0, 1, 2, 3, 4, 5, 6, 7)}


def adapted(
    mode: Literal["lora", "full"] = "lora",
    modules: int = 1,
    embeddings: Literal["lora", "full"] = "lora",
    core: bool = False,
    **changes: Any,
) -> DeepseekV3:
    """All adapter tensors random and trained; `modules` is the number of multi-token prediction modules."""
    net = random_network(num_nextn_predict_layers=modules, **{"n_shared_experts": 1, **changes})
    targets = tuple(part for part in PARTS if net.config.n_shared_experts or part != "shared_experts")
    targets = tuple(part for part in targets if net.config.first_k_dense_replace or part != "dense_mlp")
    config = AdapterConfig(
        lora_rank=3, lora_alpha=6, targets=targets, expert_mode=mode, expert_rank=2, embedding_mode=embeddings, core=core
    )
    experts = {} if core else EXPERTS | dict.fromkeys(range(3, 3 + modules), (1, 2))
    attach_adapters(net, config, experts)
    rng = np.random.default_rng(0)
    layout = adapter_layout(net.config, config, experts)
    load_adapter(net, {t.name: rng.normal(0, 0.1, t.shape).astype(np.float32) for t in layout})
    set_trainable(net, {t.name for t in layout})
    return net


def record(seed: int) -> tuple[Tensor, Tensor]:
    """Tokens and targets [t] of one record: a prompt of some tokens is not learnt."""
    length = 5 + seed * 7 % 9
    tokens = random_tokens(seed, length)
    return tokens, torch.where(torch.arange(length) < seed % 4, IGNORED, tokens)


def batch_of(seeds: list[int], adjusted: bool = False) -> Batch:
    """The records padded on the right; `adjusted` adds a correction of the logits of two tokens at every target."""
    records = [record(seed) for seed in seeds]
    longest = max(len(tokens) for tokens, _ in records)
    ids, valid = torch.zeros(len(seeds), longest, dtype=torch.int64), torch.zeros(len(seeds), longest, dtype=torch.bool)
    targets = torch.full_like(ids, IGNORED)
    for row, (tokens, wanted) in enumerate(records):
        ids[row, : len(tokens)], targets[row, : len(tokens)], valid[row, : len(tokens)] = tokens, wanted, True
    return Batch(ids, targets, valid, _adjustment(targets) if adjusted else None)


def _adjustment(targets: Tensor) -> LogitAdjustment:
    """Depends on each target alone, as a correction by label priors does."""
    tokens = targets[:, 1:][targets[:, 1:] != IGNORED]
    columns = torch.stack([tokens, (tokens * 5 + 1) % 96], 1).flatten()
    return LogitAdjustment(torch.arange(len(tokens)).repeat_interleave(2), columns, -0.02 * columns.float())
