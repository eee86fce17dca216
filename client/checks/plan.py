"""The plan against base, machine and policy: hash, memory, disk, what may be trained, and bytes of a round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client.accepting import check_fields
from client.checks.finding import Finding, checked, failed, ok
from client.given_plan import GivenPlan, complete_plan
from client.machine import free_disk, free_memory
from client.settings import HardwareSettings, InstitutionSettings
from model.checkpoint.fingerprint import checkpoint_sha256
from model.checkpoint.inventory import held_base
from model.config import read_config
from model.layout import Adaptation, AdapterConfig
from model.memory import training_memory
from protocols.plan import Plan
from protocols.policy import Policy, check_layout, check_plan
from protocols.terms import Terms
from protocols.traffic import round_bytes

STATES = 2  # a new one is written before the former goes
CHECKPOINT = 3  # what is trained and AdamW's two moments
_WIDTHS = {"stored": None, "fp32": 4, "bf16": 2}


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes that a run takes here; experts that the plan will choose are not counted."""

    memory: int
    disk: int
    sent: int  # the largest round's


def check_memory(needed: int, free: int | None, device: str) -> Finding:
    """Whether a training step fits."""
    name = "memory"
    if free is None and device != "cpu":
        return failed(name, f"there is no {device} on this machine", "correct hardware.device in institution.toml, or install the driver")
    if free is None:
        return Finding(name, "skipped", f"this system does not say how much memory is free; about {_size(needed)} are needed")
    sentence = f"training takes about {_size(needed)} on {device} and {_size(free)} are free"
    remedy = "set micro_batch = 1, checkpointing = true or base_precision under [hardware] of institution.toml, or free memory"
    return ok(name, sentence) if needed <= free else failed(name, sentence, remedy)


def check_disk(needed: int, free: int, home: Path) -> Finding:
    """Whether the files of a run fit."""
    sentence = f"a run takes about {_size(needed)} in {home} and {_size(free)} are free"
    return ok("disk", sentence) if needed <= free else failed("disk", sentence, "free space, or move storage.home of institution.toml")


def check_policy(policy: Policy, plan: Plan, terms: Terms) -> Finding:
    """Whether this institution's policy allows the plan.

    Raises:
        PolicyError: it does not.
    """
    check_plan(policy, plan)
    check_fields(policy, plan)
    if policy.limits_layout:
        check_layout(policy, terms, terms.start())
    if policy.approval == "plan":
        sentence = "the policy allows the plan once somebody has approved it"
        return Finding("policy", "warning", sentence, "when the run is submitted, `consortium client approve` lists it")
    return ok("policy", "the policy allows the plan")


def needs_of(plan: Plan, adaptation: Adaptation, directory: Path, hardware: HardwareSettings) -> Needs:
    """What a run of the plan takes on this base and hardware, as `consortium plan check` counts it."""
    terms = Terms(plan, adaptation)
    start = terms.start()
    memory = training_memory(
        adaptation.config,
        held_base(directory, _WIDTHS[hardware.base_precision]),
        adaptation.layout(start.experts),
        min(hardware.micro_batch or plan.training.batch_size, plan.training.batch_size),
        plan.records.max_tokens,
        hardware.checkpointing,
    )
    trained, sent = sum(values.nbytes for values in start.tensors.values()), max(size for _, size in round_bytes(terms, start))
    return Needs(memory.total, sent + (STATES + CHECKPOINT + 1) * trained, sent)


def adaptation_of(plan: Plan, directory: Path) -> Adaptation:
    """What the plan makes of the base in `directory`."""
    return Adaptation(read_config(directory), AdapterConfig.from_fields(plan.adapter_fields), plan.seed)


def plan_findings(plan: Plan, settings: InstitutionSettings, policy: Policy) -> Iterator[Finding]:
    """All of this group; without the plan's base the rest is not looked at."""
    directories: list[Path] = []

    def bound(given: tuple[Path, GivenPlan]) -> Finding:
        directory, completed = given
        directories.append(directory)
        if completed.notes:
            return Finding(
                "base",
                "warning",
                completed.notes[0],
                f"compare it with the operator's before the run: `consortium model info {directory}` shows it",
            )
        return ok("base", f"{directory} is the plan's {plan.base.name}")

    yield checked("base", lambda: _complete(plan, settings), bound)
    yield checked("hardware", lambda: settings.hardware.check_plan(plan), lambda _: ok("hardware", "the plan's ranks are allowed"))
    if not directories:
        return
    [directory] = directories
    yield checked("policy", lambda: Terms(plan, adaptation_of(plan, directory)), lambda terms: check_policy(policy, plan, terms))
    yield from _sizes(plan, settings, directory)


def _sizes(plan: Plan, settings: InstitutionSettings, directory: Path) -> Iterator[Finding]:
    hardware, home = settings.hardware, Path(settings.storage.home)
    found: list[Needs] = []

    def sent(needs: Needs) -> Finding:
        found.append(needs)
        more = ", and more once experts are chosen" if plan.trainable.experts.startswith("esft") else ""
        return ok("bytes per round", f"about {_size(needs.sent)} up and as much down{more}")

    yield checked("bytes per round", lambda: needs_of(plan, adaptation_of(plan, directory), directory, hardware), sent)
    for needs in found:
        yield check_memory(needs.memory, free_memory(hardware.device), hardware.device)
        yield check_disk(needs.disk, free_disk(home), home)


def _complete(plan: Plan, settings: InstitutionSettings) -> tuple[Path, GivenPlan]:
    directory = settings.base_directory(plan.base.name)
    read_config(directory)
    return directory, complete_plan(plan, checkpoint_sha256(directory))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
