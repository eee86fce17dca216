"""What a plan costs and reveals, from the plan, the base's configuration, and a few measured steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
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
from protocols.epoch import threshold
from protocols.parts import Survivors, fewest_contributors
from protocols.plan import Plan, load_plan
from protocols.ranks import held_slices, kept_rank, largest_rank
from protocols.schedule import finds_bases, has_pre_round
from protocols.selection import LEAST_UNEVENNESS
from protocols.terms import Terms
from protocols.traffic import round_bytes

FP32_BYTES = 4


def check_costs(path: Path, clock: Callable[[], float]) -> dict[str, Any]:
    """Figures and sentences of `consortium plan check`; `clock` gives seconds from any starting point.

    Raises:
        ConsortiumError, ModelError: the plan, its base or its records cannot be used.
    """
    torch.set_num_threads(1)  # as `simulate` does
    plan, home = load_plan(path), path.resolve().parent
    plan_fields(plan.records)
    check_cohort(plan, _institutions(plan))
    base = base_directory(plan, home)
    adaptation = Adaptation(read_config(base), AdapterConfig.from_fields(plan.adapter_fields), plan.seed)
    terms = Terms(plan, adaptation)
    start, privacy = terms.start(), noise_needed(plan, terms, home)
    memory = training_memory(
        adaptation.config,
        HeldBase(FP32_BYTES * count_held(base), FP32_BYTES),
        adaptation.layout(start.experts),
        plan.training.batch_size,
        plan.records.max_tokens,
        checkpointing=False,
    )
    traffic = max(size for _, size in round_bytes(terms, start))
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
        "expert_unevenness": None if time is None else time.unevenness,
        "expert_unevenness_needed": LEAST_UNEVENNESS,
        "needs": list(_needs(plan)),
        "reveals": _reveals(plan),
        "privacy": privacy,
    }


def _needs(plan: Plan) -> Iterator[str]:
    """What nested ranks and batches ask of the number of institutions."""
    institutions, batches = _institutions(plan), plan.participation.batches
    smallest, colluding = institutions // batches, plan.secure_aggregation.colluding
    if batches > 1:
        sizes = f"{smallest}" if institutions % batches == 0 else f"{smallest} or {smallest + 1}"
        yield f"{institutions} institutions train in {batches} batches of {sizes}, each once in {batches} rounds"
    if plan.trainable.ranks == "nested":
        members = Survivors(tuple(map(str, range(smallest))), threshold(smallest, colluding), colluding)
        fewest = fewest_contributors(colluding, members.threshold, smallest)
        yield f"of {smallest} institutions in a round, {fewest} must hold a slice of rank columns for it to be trained"
        held = plan.simulation.max_ranks if plan.simulation and batches == 1 else ()
        if held:
            slices = largest_rank(plan)
            kept = kept_rank(np.sum([held_slices(slices, rank) for rank in held], axis=0), members)
            yield f"with simulation.max_ranks that is the case for {kept} of {slices} slices, while nobody drops out"


def _institutions(plan: Plan) -> int:
    return plan.simulation.institutions if plan.simulation else plan.secure_aggregation.min_institutions * plan.participation.batches


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
    if plan.trainable.router_bias == "summed-counts":
        sentences.insert(3, "to everyone: in each round, how many training tokens went to each expert, of all institutions together")
    if plan.release.require.no_institution_worse_than_alone:
        sentences.insert(3, "to everyone: how many institutions are worse off with the shared model than with their local-only one")
    if plan.aggregation.rule == "sketched":
        sentences.insert(3, "to everyone: in each round, the sum of the products of all institutions' factors, and the sum of each factor")
    if finds_bases(plan):
        sentences.insert(3, "to everyone: before the first round, a sketch of the sum of all institutions' gradients, each of one norm")
    if plan.trainable.ranks == "nested" and has_pre_round(plan):
        sentences.insert(3, "to everyone: in each round, how many institutions hold each slice of rank columns")
    if plan.trainable.experts != "none" and has_pre_round(plan):
        sentences.insert(3, "to everyone: in each round, how many institutions trained each adapted expert")
    return sentences
