"""What an attacker shows of a run's privacy: canaries put in by coins, with noise and without, side by side.

Each canary is a training record of one institution with a random answer that nothing but the record tells. After a whole simulated run the
attacker, who has the model, guesses by each canary's loss whether it was in (Steinke, Nasr and Jagielski 2023), and where a threshold on
the loss tells members from others (Nasr et al. 2021). Both give an epsilon below which the run cannot be, with confidence 0.95: a bound
above the declared epsilon would prove a fault. `python -P benchmarks/privacy_audit.py` takes a few minutes on one core.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from client.batches import collate
from client.dataset import Example, build_dataset
from client.records import Record
from client.settings import HardwareSettings
from client.workbench import load_base
from consortium.simulation import simulate
from coordinator.adapter_files import ADAPTER_FILE
from model.adapters import adapter_state, attach_adapters, load_adapter
from model.bases import bundled_base
from model.layout import AdapterConfig
from model.transformer import DeepseekV3
from protocols.plan import load_plan
from protocols.privacy.audit import lower_bound_membership, lower_bound_one_run

SITES = ("north", "south", "west")
DELTA = 1e-5
PLAN = """
name = "audit"
base = "tiny"
rounds = {rounds}
[records]
prompt = "{{note}}\\ncode:"
target = " {{code}}"
too_long = "drop"
[trainable]
lora_rank = 8
targets = ["attention", "shared_experts", "dense_mlp", "lm_head"]
experts = "none"
mtp = false
[training]
local_steps = {steps}
batch_size = 16
learning_rate = 2e-2
schedule = "constant"
[aggregation]
rule = "ffa"
[evaluation]
metric = "bits_per_byte"
every = 1000
[release]
require = {{}}
[simulation]
source = "records.jsonl"
partition = {{ field = "site" }}
institutions = 3
{privacy}
"""


@dataclass(frozen=True, slots=True)
class Canaries:
    """Records, and the coin of each."""

    rows: tuple[dict[str, Any], ...]
    included: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Finding:
    """One run: what was declared, and what an attacker shows."""

    declared: float | None  # None without noise
    guessed: float
    membership: float
    gap: float  # mean loss of canaries that were out, less that of those that were in, in nats

    def document(self) -> dict[str, float | None]:
        return {
            "declared_epsilon": self.declared, "lower_bound_one_run": self.guessed, "lower_bound_membership": self.membership,
            "loss_gap": self.gap,
        }  # fmt: skip


def make_canaries(count: int, seed: int) -> Canaries:
    """Random notes with random answers, divided evenly among institutions."""
    draw = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(draw.choice(letters, 6)) for _ in range(2 * count)]
    rows = tuple(
        {"site": SITES[number % 3], "note": words[2 * number], "code": words[2 * number + 1], "split": "train"} for number in range(count)
    )
    return Canaries(rows, draw.random(count) < 0.5)


def audit(folder: Path, canaries: Canaries, epsilon: float | None, rounds: int = 4, steps: int = 20) -> Finding:
    """Runs a simulation with the canaries that are in, and attacks its model."""
    text = "" if epsilon is None else f"[privacy]\nepsilon = {epsilon}\ndelta = {DELTA}\n"
    folder.mkdir(parents=True)
    (folder / "plan.toml").write_text(PLAN.format(rounds=rounds, steps=steps, privacy=text))
    rows = [row for row, taken in zip(canaries.rows, canaries.included, strict=True) if taken] + _others()
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = simulate(folder / "plan.toml", folder / "out", baselines=False)
    losses = _losses(folder, Path(report["model"]), canaries)
    before = _losses(folder, None, canaries)
    scores, included = before - losses, canaries.included
    guessed = lower_bound_one_run(scores, included, DELTA, len(scores) // 3)
    membership = lower_bound_membership(scores[included], scores[~included], DELTA)
    return Finding(epsilon, guessed, membership, float(losses[~included].mean() - losses[included].mean()))


def _others() -> list[dict[str, Any]]:
    """What each institution has besides: a few records of each split."""
    return [
        {"site": site, "note": f"{site} {number}", "code": f"code {number % 3}", "split": "train" if number % 4 else "test"}
        for site in SITES
        for number in range(16)
    ]


@torch.no_grad()
def _losses(folder: Path, model: Path | None, canaries: Canaries) -> NDArray[np.float64]:
    """Nats per token of each canary's answer, under the base or a released model."""
    plan = load_plan(folder / "plan.toml")
    base = load_base(Path(bundled_base("tiny")), HardwareSettings())
    if model is not None:
        _adapt(base.net, AdapterConfig.from_fields(plan.adapter_fields), model)
    records = [Record({"note": row["note"], "code": row["code"]}, "canary") for row in canaries.rows]
    examples = build_dataset(records, plan.records, base.tokenizer).examples
    return np.array([_loss(base.net, example) for example in examples])


def _adapt(net: DeepseekV3, adapter: AdapterConfig, model: Path) -> None:
    from safetensors.numpy import load_file

    from coordinator.adapter_files import PEFT_PREFIX

    attach_adapters(net, adapter, {})
    tensors = {name.removeprefix(PEFT_PREFIX): values for name, values in load_file(model / ADAPTER_FILE).items()}
    load_adapter(net, {name: tensors[name] for name in adapter_state(net)})


def _loss(net: DeepseekV3, example: Example) -> float:
    batch = collate([example], net.model.embed_tokens.weight.device)
    return float(net.loss(batch.input_ids, batch.targets, mtp_weight=0.0).main)


def show(findings: Sequence[Finding], console: Console) -> None:
    table = Table(title=f"Epsilon at delta {DELTA:g}: declared, and at least (confidence 0.95)")
    for column in ("declared", "by guessing canaries", "by membership", "loss out - in (nats)"):
        table.add_column(column, justify="right")
    for one in findings:
        declared = "none (no noise)" if one.declared is None else f"{one.declared:g}"
        table.add_row(declared, f"{one.guessed:.2f}", f"{one.membership:.2f}", f"{one.gap:.3f}")
    console.print(table)


def main(arguments: Sequence[str]) -> int:
    """`--json` prints one document."""
    canaries = make_canaries(360, seed=1)
    with TemporaryDirectory() as folder:
        findings = [audit(Path(folder) / str(number), canaries, epsilon) for number, epsilon in enumerate((None, 8.0, 1.0))]
    if "--json" in arguments:
        print(json.dumps([one.document() for one in findings], indent=2))
    else:
        show(findings, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
