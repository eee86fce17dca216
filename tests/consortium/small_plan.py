"""A plan and records so small that a simulation of them takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLAN = """
name = "small"
base = "tiny"
rounds = {rounds}
[records]
{records}
[trainable]
lora_rank = 2
targets = ["attention"]
experts = "none"
[training]
local_steps = 1
batch_size = 2
[evaluation]
{evaluation}
every = 2
[release]
require = {{}}
[simulation]
source = "records.jsonl"
partition = {{ field = "site" }}
institutions = 3
"""
TEMPLATES = 'prompt = "{note}\\ncode:"\ntarget = " {code}"'


def small_records() -> list[dict[str, Any]]:
    """Six training and two test records of each of three sites; the first line of a site is a test record."""
    codes = ("red", "green", "blue")
    return [
        {"site": site, "note": f"{site} {number}", "code": codes[number % 3], "split": "train" if number % 4 else "test"}
        for site in ("north", "south", "west")
        for number in range(8)
    ]


def write_small(
    folder: Path,
    rows: list[dict[str, Any]] | None = None,
    *,
    rounds: int = 2,
    records: str = TEMPLATES,
    evaluation: str = 'metric = "accuracy"',
    more: str = "",
) -> Path:
    """Writes `plan.toml` and `records.jsonl`; `more` are further tables of the plan."""
    text = "".join(json.dumps(row) + "\n" for row in (small_records() if rows is None else rows))
    (folder / "records.jsonl").write_text(text, encoding="utf-8")
    (folder / "plan.toml").write_text(PLAN.format(rounds=rounds, records=records, evaluation=evaluation) + more, encoding="utf-8")
    return folder / "plan.toml"
