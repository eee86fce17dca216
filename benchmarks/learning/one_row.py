"""One row in a process of its own, on one thread: `python -m benchmarks.learning.one_row PLAN.json SET VARIANT SEED WORK`."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import torch

from benchmarks.learning.equal_bytes import uploaded_elements
from benchmarks.learning.rows import Figures, Results, Row, fingerprint
from benchmarks.learning.variants import BASELINES
from consortium.baseline_process import read_baselines
from consortium.baselines import run_baselines
from consortium.preparation import prepare
from consortium.simulation import simulate
from consortium.workplace import open_workplace
from model.errors import ModelError
from protocols.errors import ConsortiumError
from protocols.plan import Plan, plan_from_canonical


def measure(row: Row, plan: Plan, out: Path) -> Figures:
    """Runs the row in `out`, or goes on with it there."""
    return _baselines(plan, out) if row.variant == BASELINES else _federated(plan, out)


def _federated(plan: Plan, out: Path) -> Figures:
    report = simulate(plan, out, baselines=False, environment=os.environ)
    rounds, terms = report["rounds"], plan.training
    return {
        "metric": report["metric"],
        "test_records": report["test_records"],
        "base": report["base"],
        "federated": report["federated"],
        "own": report["federated_own"],
        "personalised": (report["personalised"] or {}).get("institutions"),
        "privacy": report["privacy"],
        "experts": report["experts"]["selected"],
        "elements_up": uploaded_elements(plan, report["experts"]["selected"]),
        "lora_rank": plan.trainable.lora_rank,
        "bytes_up": sum(one["bytes_up"] for one in rounds),
        "bytes_down": sum(one["bytes_down"] for one in rounds),
        "steps": plan.rounds * terms.local_steps,
        "records_seen": plan.rounds * terms.local_steps * terms.batch_size * len(report["federated_own"]),
        "seconds": round(sum(one["seconds"] for one in rounds), 1),
    }


def _baselines(plan: Plan, out: Path) -> Figures:
    place = open_workplace(prepare(plan, Path.cwd()), out, overwrite=False)
    place.baselines.mkdir(exist_ok=True)
    settings = {name: place.institutions / name / "institution.toml" for name in place.names}
    run_baselines(place.plan, settings, place.baselines, lambda *_: None)
    found = read_baselines(place)
    return {
        "union": {name: one.union for name, one in found.local_only.items()},
        "own": {name: one.own for name, one in found.local_only.items()},
        "pooled": found.pooled,
    }


def main(arguments: list[str]) -> int:
    """Writes the row's figures; 1 and a sentence where the variant cannot be run."""
    plan_file, data, name, seed, work = arguments
    torch.set_num_threads(1)
    row, folder = Row(data, name, int(seed)), Path(work)
    began = time.monotonic()
    plan = plan_from_canonical(Path(plan_file).read_bytes())
    out = folder / "runs" / f"{row.folder}-{fingerprint(plan)[:8]}"  # what another plan began is not gone on with
    try:
        figures = measure(row, plan, out)
        Results(folder / "rows").write(row, plan, {**figures, "process_seconds": round(time.monotonic() - began, 1)})
    except (ConsortiumError, ModelError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    shutil.rmtree(out)  # the figures are what is kept
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
