"""Rounds of a whole deployment on this machine: an operator and five institutions, by the documented commands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from tests.deployment.consortium import Deployment, stand_up

NAMES = tuple(f"site-{number}" for number in range(1, 6))
_LONGEST_SECONDS = 600.0
_PLAN = """\
name = "{name}"
base = "tiny"
rounds = {rounds}

[records]
prompt = "note {{note}}"
target = " {{code}}"
max_tokens = 16

[trainable]
targets = ["attention", "shared_experts", "dense_mlp", "lm_head"]
{trainable}

[training]
local_steps = 1
batch_size = 1
learning_rate = 1e-3

[participation]
deadline = "5m"

[evaluation]
every = {rounds}
choices = [" A", " B"]
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A plan of about a million trained parameters and next to no training."""

    name: str
    trainable: str


PLAIN = Kind("plain", 'lora_rank = 78\nlora_alpha = 32\nexperts = "none"')
PRE_ROUND = Kind("pre-round", 'lora_rank = 67\nlora_alpha = 32\nexperts = "all"\nexpert_rank = 8')


@contextmanager
def deployment(folder: Path) -> Iterator[Deployment]:
    """Institutions with a few records each, none of which takes part yet."""
    made = stand_up(Deployment(folder, NAMES))
    try:
        for name in NAMES:
            records = ({"note": f"{name} {number}", "code": "AB"[number % 2]} for number in range(40))
            (folder / name / "records.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
        yield made
    finally:
        made.close()


def seconds_of_rounds(made: Deployment, kind: Kind, rounds: int) -> list[float]:
    """From the end of a round to the end of the next, for rounds that neither begin an epoch nor evaluate; the last round does."""
    plan = made.folder / f"{kind.name}-{len(list(made.folder.glob('*.toml')))}.toml"
    plan.write_text(_PLAN.format(name=plan.stem, rounds=rounds, trainable=kind.trainable))
    run = made.document("coordinator", "submit", plan, "--home", "operator")["run"]
    _wait(made, run)
    found = made.document("coordinator", "rounds", run, "--registry", made.operator / "registry.db")["rounds"]
    ends = [datetime.fromisoformat(one["finished_at"]) for one in found if 1 <= one["round"] < rounds]
    return [(later - earlier).total_seconds() for earlier, later in pairwise(ends)]


def _wait(made: Deployment, run: str) -> None:
    """Until the run's own log says that it ended: a command that asks would take processor time from what is measured."""
    log, end = made.operator / "logs" / f"{run}.log", time.monotonic() + _LONGEST_SECONDS
    while f"run {run} is finished" not in (said := log.read_text()):
        if time.monotonic() > end or f"run {run} failed" in said:
            raise RuntimeError(made.said())
        time.sleep(0.5)
