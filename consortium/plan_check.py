"""What a plan costs and reveals, from the plan, the base's configuration, and a few measured steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from client.records import plan_fields
from consortium.bases import base_directory
from consortium.preparation import check_cohort
from consortium.privacy import reveals
from consortium.privacy_check import noise_needed
from consortium.round_time import measure_round
from model.checkpoint.inventory import count_held
from model.config import read_config
from model.layout import Adaptation, AdapterConfig
from model.memory import HeldBase, training_memory
from protocols.plan import Plan, load_plan
from protocols.schedule import has_pre_round, planned_sums
from protocols.terms import Terms

FP32_BYTES = 4


def check_costs(path: Path, clock: Callable[[], float]) -> dict[str, Any]:
    """Figures and sentences of `consortium plan check`; `clock` gives seconds from any starting point.

    Raises:
        ConsortiumError, ModelError: the plan, its base or its records cannot be used.
    """
    torch.set_num_threads(1)  # as `simulate` does
    plan, home = load_plan(path), path.resolve().parent
    plan_fields(plan.records)
    check_cohort(plan, plan.simulation.institutions if plan.simulation else plan.secure_aggregation.min_institutions)
    base = base_directory(plan, home)
    adaptation = Adaptation(read_config(base), AdapterConfig.from_fields(plan.adapter_fields), plan.seed)
    terms = Terms(plan, adaptation)
    start = terms.start()
    memory = training_memory(
        adaptation.config,
        HeldBase(FP32_BYTES * count_held(base), FP32_BYTES),
        adaptation.layout(start.experts),
        plan.training.batch_size,
        plan.records.max_tokens,
        checkpointing=False,
    )
    traffic = max(_round_bytes(terms))
    time = measure_round(plan, base, home, clock)
    return {
        "schema": 1,
        "name": plan.name,
        "sha256": plan.sha256,
        "rounds": plan.rounds,
        "trained_parameters": sum(values.size for values in start.tensors.values()),
        "memory_bytes": memory.total,
        "upload_bytes": traffic,
        "download_bytes": traffic,  # the opened sum comes back as long as the masked vectors went out
        "seconds_per_round": None if time is None else time.seconds,
        "seconds_measured_on": None if time is None else f"one core of this machine, {time.records}",
        "reveals": _reveals(plan),
        "privacy": noise_needed(plan, terms, home),
    }


def _round_bytes(terms: Terms) -> Iterator[int]:
    """Bytes of every round's sums, one way and for one institution; signatures and keys, a few kilobytes, are not counted."""
    state = terms.start()
    for _, sums in groupby(planned_sums(terms.plan), lambda planned: planned.round):
        yield sum(terms.lanes(state, planned).format.nbytes for planned in sums)


def _reveals(plan: Plan) -> list[str]:
    sums, what = plan.secure_aggregation, "updates" if plan.privacy else "updates, losses"
    sentences = [
        "to everyone: that it takes part, when it answers, and the sizes of its messages",
        f"to everyone: sums over at least {sums.min_institutions} institutions of {what} and test figures",
        f"to nobody: its own part of a sum, while no more institutions collude with the coordinator than {sums.colluding}",
        *reveals(plan),
    ]
    if plan.trainable.experts.startswith("esft"):
        sentences.insert(3, "to everyone: the sum of how much each expert is used on training records")
    if has_pre_round(plan):
        sentences.insert(3, "to everyone: in each round, how many institutions trained each adapted expert")
    return sentences
