"""Following a recipe from books to a checkpoint directory."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from model.checkpoint.fingerprint import checkpoint_sha256
from model.checkpoint.saving import write_checkpoint
from model.config import ModelConfig
from model.errors import CheckpointError
from model.loss import Loss
from model.new_directory import new_directory
from model.pretraining.batches import record_batches
from model.pretraining.books import read_chapters, split_passages
from model.pretraining.bpe import train_tokenizer
from model.pretraining.recipe import Optimisation, Recipe, find_books
from model.pretraining.rescale import rescale_states
from model.pretraining.schedule import warmup_cosine
from model.pretraining.tasks import RecordTasks
from model.pretraining.topics import find_topics
from model.text.tokenizer import END, PADDING, Tokenizer
from model.training import Batch, LossTerms, train
from model.transformer import DeepseekV3


@dataclass(frozen=True, slots=True)
class Step:
    """Progress in a stage, "network" or "mtp": the loss of this step in nats a target token."""

    stage: str
    number: int
    loss: float


def pretrain(recipe: Recipe, data: Path, out: Path, on_step: Callable[[Step], None] | None = None) -> str:
    """Makes the checkpoint directory `out` and returns its SHA-256. One machine and one thread count give the same bytes.

    Raises:
        RecipeError, ConfigError, CheckpointError: the recipe or its books do not fit, or `out` is not empty.
    """
    passages_file = find_books(recipe, data)
    _check_free(out)
    network = {**recipe.network, "vocab_size": recipe.vocab_size, "eos_token_id": 0, "pad_token_id": 1}
    config = ModelConfig.from_dict(network)
    chapters = read_chapters(passages_file)
    tokenizer = train_tokenizer(chapters, recipe.vocab_size)
    passages = split_passages(chapters)
    search = recipe.topics
    topics = find_topics(passages, search.dimensions, search.counts, search.common_words, recipe.seed)
    rng = random.Random(recipe.seed)
    tasks = RecordTasks(passages, topics, tokenizer, recipe.prompt_share, rng)
    batches = record_batches(tasks.draw, recipe.shares, recipe.optimisation.tokens_per_step, 1, rng)
    net = DeepseekV3(config)
    net.initialize(torch.Generator().manual_seed(recipe.seed))
    fit(net, batches, recipe.optimisation, on_step)
    save_base(net, tokenizer, out)
    return checkpoint_sha256(out)


def fit(net: DeepseekV3, batches: Iterator[Batch], settings: Optimisation, on_step: Callable[[Step], None] | None) -> None:
    """Trains the network without its MTP modules, then these alone on the network as it is: drafts cost it nothing."""
    modules, net.mtp = net.mtp, nn.ModuleList()
    _train(net, batches, settings.steps, settings, _Counter("network", on_step))
    rescale_states(net, settings.state_scale)
    net.mtp = modules
    if not len(modules):
        return
    net.requires_grad_(False)
    modules.requires_grad_(True)
    _train(net, batches, settings.mtp_steps, settings, _Counter("mtp", on_step))
    net.requires_grad_(True)


def _train(net: DeepseekV3, batches: Iterator[Batch], steps: int, settings: Optimisation, counter: _Counter) -> None:
    train(
        net,
        islice(batches, steps),
        learning_rate=warmup_cosine(settings.learning_rate, settings.warmup_steps, steps),
        weight_decay=settings.weight_decay,
        terms=LossTerms(mtp_weight=1.0, bias_update_speed=settings.bias_update_speed),
        on_step=counter,
    )


def save_base(net: DeepseekV3, tokenizer: Tokenizer, out: Path) -> None:
    """Writes a Hugging Face directory with its tokenizer, weights in bfloat16; `out` appears whole or not at all."""
    _check_free(out)
    for parameter in net.parameters():
        parameter.data = parameter.data.bfloat16()
    described: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": PADDING}
    with new_directory(out, CheckpointError) as draft:
        write_checkpoint(net, draft)
        tokenizer.save(draft / "tokenizer.json")
        _write_json(draft / "tokenizer_config.json", described)
        _write_json(draft / "generation_config.json", {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": 1})


def _check_free(out: Path) -> None:
    if out.exists():
        raise CheckpointError(f"{out} exists already: give a new directory")


@dataclass(frozen=True, slots=True)
class _Counter:
    stage: str
    on_step: Callable[[Step], None] | None

    def __call__(self, number: int, loss: Loss) -> None:
        if self.on_step is not None:
            self.on_step(Step(self.stage, number, float((loss.main if self.stage == "network" else loss.mtp).detach())))


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
