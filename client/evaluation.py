"""The plan's metric over an institution's test records, as a pair of sums that add up over institutions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import torch

from client.batches import collate
from client.choices import ChoiceTrie, build_trie
from client.dataset import Example
from client.scoring import likeliest_choices
from client.work import MetricSums
from model.loss import cross_entropy, select_targets
from model.text.tokenizer import Tokenizer
from model.transformer import DeepseekV3
from protocols.plan import Plan

BATCH_TOKENS = 2**13


@dataclass(frozen=True, slots=True)
class Choices:
    """The closed list of targets and its trie."""

    texts: tuple[str, ...]
    trie: ChoiceTrie


def closed_choices(plan: Plan, tokenizer: Tokenizer) -> Choices | None:
    """The plan's list for accuracy; None under another metric.

    Raises:
        RecordError: the list is empty or holds a choice twice.
    """
    if plan.evaluation.metric != "accuracy":
        return None
    sequences = [[*ids, tokenizer.eos_token_id] for ids in tokenizer.encode_all(plan.evaluation.choices)]
    return Choices(plan.evaluation.choices, build_trie(sequences))


def accuracy(net: DeepseekV3, examples: Sequence[Example], choices: Choices) -> MetricSums:
    """Right records of records: the likeliest choice is the record's target. A target outside the list is counted as wrong."""
    index = {text: number for number, text in enumerate(choices.texts)}
    known = [example for example in examples if example.target in index]
    found = likeliest_choices(net, choices.trie, [example.tokens[: example.prompt_length] for example in known])
    right = sum(int(index[example.target] == choice) for example, choice in zip(known, found, strict=True))
    return MetricSums(float(right), len(examples))


@torch.inference_mode()
def exact_match(net: DeepseekV3, examples: Sequence[Example], tokenizer: Tokenizer) -> MetricSums:
    """Right records of records: greedy generation up to the end token is the target, both stripped."""
    right = 0
    for batch in _by_prompt_length(examples):
        prompts = torch.from_numpy(np.stack([example.tokens[: example.prompt_length] for example in batch]).astype(np.int64))
        longest = max(len(example.tokens) - example.prompt_length for example in batch)
        device = net.model.embed_tokens.weight.device
        # What has not ended a token after the longest target is wrong whatever follows.
        end = tokenizer.closing(batch[0].tokens)
        answers = net.generate(prompts.to(device), longest + 1, eos_token_id=end)[:, prompts.shape[1] :].tolist()
        right += sum(_text(ids, end, tokenizer).strip() == example.target.strip() for ids, example in zip(answers, batch, strict=True))
    return MetricSums(float(right), len(examples))


@torch.inference_mode()
def bits_per_byte(net: DeepseekV3, examples: Sequence[Example]) -> MetricSums:
    """Bits of bytes: -log2 of the targets' probability, end tokens included, over the UTF-8 bytes of the targets."""
    bits = 0.0
    for batch in by_length(examples):
        tensors = collate(batch, net.model.embed_tokens.weight.device)
        # A cache skips the multi-token prediction modules, which the metric does not read.
        cache = net.new_cache(*tensors.input_ids.shape)
        states, wanted = select_targets(net.hidden(tensors.input_ids, cache).main, tensors.targets, 1)
        bits += float(cross_entropy(states, net.lm_head, wanted)) / math.log(2)
    return MetricSums(bits, sum(example.target_bytes for example in examples))


def _text(ids: list[int], end: int | None, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(takewhile(lambda token: token != end, ids))


def by_length(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Batches of at most BATCH_TOKENS tokens, the longest examples first."""
    remaining = sorted(examples, key=lambda example: len(example.tokens), reverse=True)
    while remaining:
        rows = max(1, BATCH_TOKENS // len(remaining[0].tokens))
        yield remaining[:rows]
        remaining = remaining[rows:]


def _by_prompt_length(examples: Sequence[Example]) -> Iterator[list[Example]]:
    groups: dict[int, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.prompt_length, []).append(example)
    for length, group in sorted(groups.items()):
        rows = max(1, BATCH_TOKENS // length)
        yield from (group[start : start + rows] for start in range(0, len(group), rows))
