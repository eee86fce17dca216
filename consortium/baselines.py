"""What the federation is compared with: each institution alone, and one trainer on all records together.

Both run the institutions' own training code with the plan's targets, ranks and schedule, in a process of their own beside the
federation. The state after every round is on disk, so that a restart goes on where the process was stopped.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from client.alone import train_alone
from client.dataset import Dataset
from client.settings import load_settings
from client.work import MetricSums
from client.workbench import Workbench, load_base, open_workbench
from model.errors import ModelError
from protocols.errors import ConsortiumError
from protocols.files import write_file
from protocols.plan import Plan, plan_from_canonical

OnRound = Callable[[str, int, int], None]  # baseline's name, rounds done of all


@dataclass(frozen=True, slots=True)
class _Trainer:
    """One baseline: its file's name, its records, the steps of a round, and whose test records are its own."""

    file: str
    bench: Workbench
    steps: int
    own: str | None


def run_baselines(plan: Plan, institutions: Mapping[str, Path], out: Path, on_round: OnRound) -> None:
    """Trains and measures what `out` does not hold yet; `institutions` maps each name to its `institution.toml`.

    Writes `local-NAME.json` with the metric on the union's and on the own test records, and `pooled.json` with the union's.

    Raises:
        ConsortiumError, ModelError: an institution's records or the base cannot be used.
    """
    benches = _open_all(plan, institutions)
    for trainer in _trainers(plan, benches):
        path = out / f"{trainer.file}.json"
        if not path.exists():
            done = partial(_told, on_round, trainer)
            state = train_alone(trainer.bench, plan, out / f"{trainer.file}.safetensors", done, trainer.steps)
            sums = {name: bench.evaluate(state.tensors, state.experts) for name, bench in benches.items()}
            write_file(path, json.dumps(_figures(sums, trainer.own), indent=2).encode())


def _open_all(plan: Plan, institutions: Mapping[str, Path]) -> dict[str, Workbench]:
    settings = {name: load_settings(path) for name, path in sorted(institutions.items())}
    first = next(iter(settings.values()))
    base = load_base(first.base_directory(plan.base.name), first.hardware)
    return {name: open_workbench(plan, one, base) for name, one in settings.items()}


def _trainers(plan: Plan, benches: Mapping[str, Workbench]) -> Iterator[_Trainer]:
    """Pooled training takes the federation's steps together: as many rounds, each with the steps of all who train in it.

    Who is alone trains in every round, even where the federation has batches, and the ranks that its own hardware allows.
    """
    steps = plan.training.local_steps
    for name, bench in benches.items():
        yield _Trainer(f"local-{name}", bench, steps, name)
    parts = [bench.train_set for bench in benches.values()]
    union = Dataset(tuple(example for part in parts for example in part.examples), 0, 0)
    first = next(iter(benches.values()))
    yield _Trainer(
        "pooled", Workbench(first.plan, first.base, union, first.test_set), steps * (len(benches) // plan.participation.batches), None
    )


def _told(on_round: OnRound, trainer: _Trainer, done: int) -> None:
    on_round(trainer.own or trainer.file, done, trainer.bench.plan.rounds)


def _figures(sums: Mapping[str, MetricSums], own: str | None) -> dict[str, Any]:
    parts = sums.values()
    figures: dict[str, Any] = {"union": sum(part.numerator for part in parts) / sum(part.denominator for part in parts)}
    if own is not None:
        figures["own"] = sums[own].numerator / sums[own].denominator
    return figures


def main(arguments: list[str]) -> int:
    """`python -P -m consortium.baselines PLAN.json INSTITUTIONS_DIR OUT_DIR`: one JSON line of progress a round.

    Started so, it ends when its standard input does.
    """
    plan_file, institutions, out = (Path(argument) for argument in arguments)
    torch.set_num_threads(1)  # the federation's process has the other core
    settings = {path.parent.name: path for path in sorted(institutions.glob("*/institution.toml"))}
    try:
        run_baselines(plan_from_canonical(plan_file.read_bytes()), settings, out, _report)
    except (ConsortiumError, ModelError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _report(name: str, done: int, total: int) -> None:
    sys.stdout.write(json.dumps({"name": name, "done": done, "total": total}) + "\n")
    sys.stdout.flush()


def _end_with_standard_input() -> None:
    """Ends this process at once when its standard input ends, which it does when the process that started it is gone."""

    def watch() -> None:
        # Not sys.stdin, whose lock a waiting thread would still hold when the interpreter shuts down.
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _end_with_standard_input()
    sys.exit(main(sys.argv[1:]))
