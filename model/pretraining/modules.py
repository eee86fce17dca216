"""Multi-token prediction modules for a base that has none, trained on public text while the base stays as it is."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from model.checkpoint.fingerprint import checkpoint_sha256
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import write_checkpoint
from model.errors import CheckpointError
from model.export import BESIDE
from model.moe import MoE
from model.mtp import MTPModule
from model.new_directory import new_directory
from model.pretraining.schedule import warmup_cosine
from model.pretraining.text import cut_windows, read_texts, window_batches
from model.text.tokenizer import load_tokenizer
from model.training import Batch, LossTerms, train
from model.transformer import Block, DeepseekV3

_BALANCE = 1e-4  # DeepSeek-V3, section 4.2; the biases would balance too, but those of the base must not move


@dataclass(frozen=True, slots=True)
class ModuleTraining:
    """How many modules, and how they are trained: AdamW with warm-up over a tenth of the steps and cosine decay."""

    modules: int = 1
    steps: int = 600
    tokens_per_step: int = 2048
    window: int = 128  # tokens of a row, at most
    learning_rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Added:
    """The new base's hash, and each module's acceptance on held-out text (`draft_acceptance`) before and after training."""

    sha256: str
    acceptance_before: tuple[float, ...]
    acceptance_after: tuple[float, ...]


def add_mtp(base: Path, out: Path, data: Path, settings: ModuleTraining, on_step: Callable[[int, float], None] | None = None) -> Added:
    """Writes the base with trained modules to the new directory `out`; the base's own tensors keep type and bits.

    One machine and one thread count give the same bytes. `on_step` gets each step's number, from 1, and its loss in nats.

    Raises:
        CheckpointError, ConfigError, TokenizerError, RecipeError: the base has modules already, `out` exists, or a file does not fit.
    """
    if out.exists():
        raise CheckpointError(f"{out} exists already: give a new directory")
    net = load_checkpoint(base, dtype=torch.float32)
    if len(net.mtp):
        raise CheckpointError(f"{base} has {len(net.mtp)} MTP module(s) already: generate with --speculative as it is")
    length = min(settings.window, settings.tokens_per_step)
    windows = cut_windows(read_texts(data), load_tokenizer(base), length)
    attach_modules(net, settings.modules, torch.Generator().manual_seed(settings.seed))
    before = draft_acceptance(net, windows.held_out)
    batches = window_batches(windows.training, settings.tokens_per_step // length, random.Random(settings.seed))
    train_modules(net, batches, settings, on_step)
    _write(net, base, out)
    return Added(checkpoint_sha256(out), before, draft_acceptance(net, windows.held_out))


def attach_modules(net: DeepseekV3, count: int, generator: torch.Generator) -> None:
    """Puts `count` fresh modules on a network without any, see `_begin`."""
    first = net.config.num_hidden_layers
    net.config = replace(net.config, num_nextn_predict_layers=count)
    net.mtp = nn.ModuleList(MTPModule(net.config, layer) for layer in range(first, first + count))
    for module in net.mtp:
        _begin(cast(MTPModule, module), net, generator)


def train_modules(
    net: DeepseekV3, batches: Iterator[Batch], settings: ModuleTraining, on_step: Callable[[int, float], None] | None = None
) -> None:
    """Trains the modules alone: nothing of the base requires a gradient, so that its forward keeps no graph."""
    net.requires_grad_(False)
    net.mtp.requires_grad_(True)
    train(
        net,
        _own_choices(net, islice(batches, settings.steps)),
        learning_rate=warmup_cosine(settings.learning_rate, settings.steps // 10, settings.steps),
        terms=LossTerms(mtp_weight=1.0, balance_weight=_BALANCE),
        on_step=None if on_step is None else lambda step, loss: on_step(step, float(loss.mtp.detach())),
    )
    net.requires_grad_(True)


@torch.no_grad()
def draft_acceptance(net: DeepseekV3, windows: Tensor) -> tuple[float, ...]:
    """Each module's share of places in windows [n, t] where its likeliest token is the base's own: greedy acceptance on given text."""
    right = [0] * len(net.mtp)
    for window in windows.split(8):
        hidden = net.hidden(window)
        choices = _likeliest(net, hidden.main)  # entry i is the base's token i + 1
        for depth, states in enumerate(hidden.mtp, start=1):
            right[depth - 1] += int((_likeliest(net, states) == choices[:, depth:]).sum())
    return tuple(hits / (len(windows) * (windows.shape[1] - depth)) for depth, hits in enumerate(right, start=1))


def _own_choices(net: DeepseekV3, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches whose targets are the base's likeliest tokens: a draft has to guess the base, not the text.

    Tokens drawn from the base as targets would suit drafts that are sampled better, and greedy ones less.
    """
    for batch in batches:
        targets = batch.input_ids.clone()
        with torch.no_grad():
            targets[:, 1:] = _likeliest(net, net.hidden(batch.input_ids, ahead=False).main[:, :-1])
        yield replace(batch, targets=targets)


def _likeliest(net: DeepseekV3, states: Tensor) -> Tensor:
    """Tokens [b, t] of states [b, t, H]; the logits of one row exist at a time."""
    return torch.stack([net.lm_head(row).argmax(-1) for row in states])


@torch.no_grad()
def _begin(module: MTPModule, net: DeepseekV3, generator: torch.Generator) -> None:
    """Starts a module as the base's last layer and final norm, read once more on the state that they made.

    eh_proj passes the state on and leaves the embedding out: the copied layer then meets the only input of the two that it
    knows, and the gradient opens the other half. A dense last layer lends no mixture, which is then random.
    """
    size, last = net.config.hidden_size, cast(Block, net.model.layers[-1])
    for parameter in module.parameters():
        if parameter.dim() == 1:
            parameter.fill_(1.0)
        else:
            parameter.normal_(0.0, net.config.initializer_range, generator=generator)
    for name in ("self_attn", "input_layernorm", "post_attention_layernorm"):
        getattr(module, name).load_state_dict(getattr(last, name).state_dict())
    if isinstance(last.mlp, MoE):
        module.mlp.load_state_dict(last.mlp.state_dict())
    module.shared_head.norm.load_state_dict(net.model.norm.state_dict())
    module.eh_proj.weight.copy_(torch.cat([torch.zeros(size, size), torch.eye(size)], 1))


def _write(net: DeepseekV3, base: Path, out: Path) -> None:
    """The base as it is stored, with the modules of `net` in its type, and what lies beside it; `out` appears whole or not at all."""
    stored = load_checkpoint(base)
    stored.config, stored.mtp = replace(stored.config, num_nextn_predict_layers=len(net.mtp)), net.mtp
    for parameter in net.mtp.parameters():
        parameter.data = parameter.data.to(stored.dtype)
    with new_directory(out, CheckpointError) as draft:
        write_checkpoint(stored, draft)
        for name in BESIDE:
            if (base / name).is_file():
                shutil.copyfile(base / name, draft / name)
