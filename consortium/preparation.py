"""What a simulation runs on, read and checked before anything is written: the completed plan and every institution's records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from client.dataset import Datasets, build_datasets
from client.evaluation import closed_choices
from client.machine import free_memory
from client.records import Records, divide_records
from client.settings import HardwareSettings, RecordSettings
from client.template import parse_template
from consortium.bases import base_directory
from consortium.errors import SimulationError
from consortium.partition import SPLIT, partition, read_source
from model.checkpoint.fingerprint import checkpoint_sha256
from model.config import read_config
from model.layout import Adaptation, AdapterConfig
from model.text.tokenizer import load_tokenizer
from protocols.epoch import check_threshold, threshold
from protocols.errors import ThresholdError
from protocols.participation import too_small
from protocols.plan import Plan


@dataclass(frozen=True, slots=True)
class Preparation:
    """Everything that was read. Institutions are in order of size, the largest first."""

    plan: Plan  # with base hash and choices filled in
    base: Path
    copies: Mapping[str, bytes]  # institution -> its rows as JSONL
    datasets: Mapping[str, Datasets]

    @property
    def records_sha256(self) -> str:
        """Hash of what each institution holds."""
        return hashlib.sha256(json.dumps([[name, _sha256(copy)] for name, copy in self.copies.items()]).encode()).hexdigest()


def prepare(plan: Plan, home: Path) -> Preparation:
    """Reads and checks all that a simulation needs.

    Args:
        plan: as it was read; `home` is the folder that its paths are relative to.

    Raises:
        ConsortiumError, ModelError: plan, base or records cannot be used; the sentence names the record's own file, line and field.
    """
    if plan.simulation is None:
        raise SimulationError(f"plan {plan.name} has no [simulation] table; add one with source = the file of records")
    check_cohort(plan, plan.simulation.institutions)
    base = base_directory(plan, home)
    Adaptation(read_config(base), AdapterConfig.from_fields(plan.adapter_fields), plan.seed).layout({})
    source = str(home / plan.simulation.source)
    parts = partition(read_source(source, plan.seed), plan.simulation, plan.seed)
    settings = RecordSettings(source=source, split=SPLIT, group=plan.simulation.group)
    records = {name: divide_records(rows, settings, plan) for name, rows in parts.items()}
    plan = _completed(plan, base, records.values())
    copies = {name: "".join(f"{json.dumps(row.values)}\n" for row in rows).encode() for name, rows in parts.items()}
    return Preparation(plan, base, copies, _datasets(plan, base, source, records))


def check_device(device: str) -> None:
    """Whether the networks can be held there: "cpu", "cuda" or "cuda:N".

    Raises:
        SimulationError: it is no such name, or there is no such device on this machine.
    """
    try:
        HardwareSettings(device=device)
    except ValidationError:
        raise SimulationError(f"device {device!r} is none that is known; give cpu, cuda or cuda:N") from None
    if device != "cpu" and free_memory(device) is None:
        raise SimulationError(f"there is no {device} on this machine; give cpu or another GPU, or install a driver and PyTorch for it")


def check_cohort(plan: Plan, institutions: int) -> None:
    """Whether so many institutions carry the plan's secure sums.

    Raises:
        SimulationError: they are too few for its rounds, or for the colluding ones that it allows for.
    """
    if (fault := too_small(plan, institutions)) is not None:
        raise SimulationError(fault)
    sums, needed = plan.secure_aggregation, max(plan.secure_aggregation.min_institutions, plan.participation.quorum)
    if institutions < needed:
        raise SimulationError(f"simulation.institutions is {institutions} and a round needs {needed}; raise it, or ask for fewer")
    most = max(colluding for colluding in range(institutions) if _carries(institutions, colluding))
    if sums.colluding > most:
        raise SimulationError(
            f"secure_aggregation.colluding is {sums.colluding} and {institutions} institutions carry at most {most}; "
            "lower it, or raise simulation.institutions"
        )


def _carries(institutions: int, colluding: int) -> bool:
    try:
        check_threshold(institutions, colluding, threshold(institutions, colluding))
    except ThresholdError:
        return False
    return True


def _completed(plan: Plan, base: Path, records: Iterable[Records]) -> Plan:
    digest = checkpoint_sha256(base)
    if plan.base.sha256 not in ("", digest):
        raise SimulationError(f"{base} is not the checkpoint of the plan: its hash is {digest}; correct base.sha256 or the checkpoint")
    plan = plan.model_copy(update={"base": plan.base.model_copy(update={"sha256": digest})})
    if plan.evaluation.metric != "accuracy":
        return plan
    targets = _targets(plan, records)
    if plan.evaluation.choices:
        _check_choices(plan.evaluation.choices, targets)
        return plan
    return plan.with_choices(targets)


def _check_choices(choices: tuple[str, ...], targets: tuple[str, ...]) -> None:
    if not set(choices) & set(targets):
        raise SimulationError(
            f"no record's target is among evaluation.choices, which begin with {choices[0]!r}; write them as records.target renders them, "
            f"spaces included: {targets[0]!r}"
        )


def _targets(plan: Plan, records: Iterable[Records]) -> tuple[str, ...]:
    """The sorted distinct targets of the union's training records."""
    if plan.records.messages:
        raise SimulationError("accuracy needs prompt and target; records.messages goes with exact_match or bits_per_byte")
    template = parse_template(plan.records.target, "records.target")
    return tuple(sorted({template.render(record.values) for part in records for record in part.train}))


def _datasets(plan: Plan, base: Path, source: str, records: Mapping[str, Records]) -> dict[str, Datasets]:
    tokenizer = load_tokenizer(base)
    closed_choices(plan, tokenizer)  # raises where the list cannot be used
    return {name: build_datasets(one, plan.records, tokenizer, f"{source}, institution {name}") for name, one in records.items()}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
