"""The demonstration as a deployment needs it: every hospital's notes in a file of its own, and a plan that names the codes."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from consortium.demo.records import demo_records
from protocols.files import write_file

ROUNDS = 2

_PLAN = """\
# Four hospitals learn to code clinical notes, each on its own machine.
name = "triage"
base = "tiny"
rounds = {rounds}

[records]
prompt = "note: {{note}}\\ncode:"
target = " {{code}}"
max_tokens = 96

[trainable]
lora_rank = 16
lora_alpha = 32
targets = ["attention", "shared_experts", "dense_mlp", "lm_head", "embeddings"]
experts = "none"
mtp = false

[training]
local_steps = 20
batch_size = 16
learning_rate = 6e-3

[participation]
deadline = "10m"

[evaluation]
metric = "accuracy"
choices = {choices}
"""


def write_deployment(folder: Path, seed: int) -> tuple[str, ...]:
    """Writes `plan.toml` and a `HOSPITAL.jsonl` each; returns the hospitals' names."""
    rows = defaultdict(list)
    for record in demo_records(seed):
        # Who is in the test half is the simulation's to say; a deployed institution divides its records by its own settings.
        rows[record["site"]].append({"note": record["note"], "code": record["code"]})
    codes = sorted({record["code"] for records in rows.values() for record in records})
    for name, records in rows.items():
        write_file(folder / f"{name}.jsonl", "".join(json.dumps(record) + "\n" for record in records).encode())
    plan = _PLAN.format(rounds=ROUNDS, choices=json.dumps([f" {code}" for code in codes]))
    write_file(folder / "plan.toml", plan.encode())
    return tuple(rows)
