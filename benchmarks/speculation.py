"""Speculative decoding beside plain greedy decoding, on text of the domain that network and MTP module were trained on.

python -m benchmarks.speculation RECORDS.jsonl [--where FIELD=VALUE] [--field TEXT] [--steps 400] [--threads 2] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.model_networks import CONFIG
from benchmarks.timing import interleaved
from model.bases import bundled_base
from model.decoding.generation import Generation, Sampling, generate
from model.decoding.speculation import generate_speculatively
from model.text.tokenizer import load_tokenizer
from model.training import Batch, LossTerms, train
from model.transformer import DeepseekV3

ROWS, LENGTH, RATE = 8, 128, 2e-3
PROMPTS, PROMPT, NEW = 8, 48, 96  # tokens of a prompt and of its continuation


def read_texts(path: Path, field: str, where: str) -> dict[str, list[list[int]]]:
    """Token ids of each record's text, by split."""
    tokenizer, texts = load_tokenizer(bundled_base("tiny")), {"train": list[str](), "test": list[str]()}
    name, _, value = where.partition("=")
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["split"] in texts and (not where or record[name] == value):
            texts[record["split"]].append(record[field])
    return {split: [[*ids, tokenizer.eos_token_id] for ids in tokenizer.encode_all(found)] for split, found in texts.items()}


def crops(stream: Tensor, steps: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        starts = torch.randint(0, len(stream) - LENGTH, (ROWS,), generator=generator).tolist()
        ids = torch.stack([stream[start : start + LENGTH] for start in starts])
        yield Batch(ids, ids, torch.ones_like(ids, dtype=torch.bool))


def trained(texts: list[list[int]], steps: int) -> DeepseekV3:
    """The benchmark's network with one MTP module, both trained from random weights."""
    net = DeepseekV3(replace(CONFIG, num_nextn_predict_layers=1))
    net.initialize(torch.Generator().manual_seed(0))
    stream = torch.tensor([token for text in texts for token in text])

    def rate(step: int) -> float:
        return RATE * min(1.0, step / 30) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))

    terms = LossTerms(bias_update_speed=0.002)
    train(net, crops(stream, steps), learning_rate=rate, weight_decay=0.01, terms=terms)
    return net


def continued(net: DeepseekV3, prompt: Tensor, drafts: int) -> Generation:
    with torch.inference_mode():
        if drafts:
            return generate_speculatively(net, prompt, NEW, Sampling(), draft_tokens=drafts)
        return generate(net, prompt, NEW, Sampling())


def main() -> None:
    """Trains, then prints tokens a second with 0 to 3 drafts, acceptance, and each as a multiple of plain decoding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path)
    parser.add_argument("--field", default="answer")
    parser.add_argument("--where", default="")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    texts = read_texts(arguments.records, arguments.field, arguments.where)
    net = trained(texts["train"], arguments.steps)
    prompts = [torch.tensor([text[:PROMPT]]) for text in texts["test"] if len(text) > PROMPT + NEW][:PROMPTS]
    results = {drafts: [continued(net, prompt, drafts) for prompt in prompts] for drafts in range(4)}
    plain = [result.tokens for result in results[0]]
    programs = {str(drafts): lambda drafts=drafts: [continued(net, prompt, drafts) for prompt in prompts] for drafts in range(4)}
    seconds = interleaved(programs, arguments.repeats)
    for drafts, found in results.items():
        same = all(torch.equal(result.tokens, tokens) for result, tokens in zip(found, plain, strict=True))
        accepted = sum(result.accepted for result in found) / max(sum(result.drafted for result in found), 1)
        speed = len(prompts) * NEW / seconds[str(drafts)]
        ratio = seconds["0"] / seconds[str(drafts)]
        print(f"{drafts} drafts: {speed:6.1f} tokens/s, {ratio:.2f}x plain; {accepted:.0%} of drafts accepted; same tokens: {same}")


if __name__ == "__main__":
    main()
