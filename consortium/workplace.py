"""The folder of a simulation: plan, records and settings of every institution, keys, registry, models, report."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.institution import Membership, write_membership
from client.records import plan_fields
from client.settings import InstitutionSettings, load_settings, write_settings
from client.sources import Row
from client.template import parse_template
from consortium.errors import SimulationError
from consortium.partition import partition, read_source
from coordinator.home import operator_identity, write_home
from model.bases import bundled_base, bundled_names
from model.config import read_config
from model.fingerprint import checkpoint_sha256
from protocols.files import write_file
from protocols.identity import Identity
from protocols.plan import Plan
from protocols.policy import Policy, write_policy
from protocols.roster import Roster, RosterEntry


@dataclass(frozen=True, slots=True)
class Workplace:
    """Paths below the output folder."""

    out: Path
    plan: Plan  # with base hash and choices filled in
    names: tuple[str, ...]  # institutions, the largest first
    base: Path

    @property
    def plan_file(self) -> Path:
        return self.out / "plan.json"

    @property
    def report_file(self) -> Path:
        return self.out / "report.json"

    @property
    def institutions(self) -> Path:
        return self.out / "institutions"

    @property
    def baselines(self) -> Path:
        return self.out / "baselines"

    def settings(self, name: str) -> InstitutionSettings:
        return load_settings(self.institutions / name / "institution.toml")

    def identity(self, name: str) -> Identity:
        return Identity.load(name, self.institutions / name / "identity.key")

    @property
    def operator(self) -> Identity:
        return operator_identity(self.out, os.urandom)

    @property
    def roster(self) -> Roster:
        return Roster(tuple(RosterEntry(name, self.identity(name).public_key) for name in sorted(self.names)))


def open_workplace(plan: Plan, home: Path, out: Path, overwrite: bool) -> Workplace:
    """Makes the folder of a simulation, or opens that of the same plan and seed again.

    Args:
        plan: as it was read; `home` is the folder that its paths are relative to.

    Raises:
        ConsortiumError: the records cannot be used, or `out` holds something else.
    """
    if plan.simulation is None:
        raise SimulationError(f"plan {plan.name} has no [simulation] table; add one with source = the file of records")
    base = base_directory(plan, home)
    parts = partition(read_source(str(home / plan.simulation.source), plan.seed), plan.simulation, plan.seed)
    plan = completed_plan(plan, base, [row for rows in parts.values() for row in rows])
    place = Workplace(out, plan, tuple(parts), base)
    if overwrite and out.exists():
        _remove(out)
    if not place.plan_file.exists():
        _make(place, parts)
    elif place.plan_file.read_bytes() != plan.canonical():
        raise SimulationError(f"{out} holds a run of another plan, seed or records; give --overwrite to replace it, or another --out")
    return place


def completed_plan(plan: Plan, base: Path, rows: Sequence[Row]) -> Plan:
    """The plan with its base's hash and, for accuracy, the choices of the union's training records.

    Raises:
        ConsortiumError: the base is another one, or a record lacks a field of the target.
    """
    digest = checkpoint_sha256(base)
    if plan.base.sha256 not in ("", digest):
        raise SimulationError(f"{base} is not the checkpoint of the plan: its hash is {digest}; correct base.sha256 or the checkpoint")
    plan = plan.model_copy(update={"base": plan.base.model_copy(update={"sha256": digest})})
    if plan.evaluation.metric != "accuracy" or plan.evaluation.choices:
        return plan
    return plan.with_choices(_targets(plan, rows))


def _targets(plan: Plan, rows: Sequence[Row]) -> tuple[str, ...]:
    """The sorted distinct targets of the union's training records."""
    if plan.records.messages:
        raise SimulationError("accuracy needs prompt and target; records.messages goes with exact_match or bits_per_byte")
    template = parse_template(plan.records.target, "records.target")
    found = set()
    for row in rows:
        if row.values.get("split") == "train":
            values = {field: field_text(row, field) for field in plan_fields(plan.records)}
            found.add(template.render(values))
    return tuple(sorted(found))


def field_text(row: Row, field: str) -> str:
    """A field's value as text.

    Raises:
        SimulationError: the row lacks it.
    """
    value = row.values.get(field)
    if value is None:
        raise SimulationError(f"{row.place}: field {field} is missing; add it, or correct the templates in [records]")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def base_directory(plan: Plan, home: Path) -> Path:
    """The checkpoint of a plan: a bundled base, or a directory relative to the plan.

    Raises:
        SimulationError: there is neither.
    """
    name = plan.base.name
    if name in bundled_names():
        return bundled_base(name)
    if (home / name).is_dir():
        return (home / name).resolve()
    raise SimulationError(f"there is no base {name}: give a checkpoint directory or one of {', '.join(bundled_names())}")


def _make(place: Workplace, parts: dict[str, list[Row]]) -> None:
    """Everything that this simulation needs, and stock Flower's (`flwr run`) too; the plan comes after keys and records."""
    if place.out.exists() and any(place.out.iterdir()):
        _check_ours(place.out)
        _remove(place.out)
    sums = place.plan.secure_aggregation
    policy = Policy(min_institutions=sums.min_institutions, colluding=sums.colluding)
    for name, rows in parts.items():
        folder = place.institutions / name
        folder.mkdir(parents=True)
        lines = (json.dumps(row.values, ensure_ascii=False, default=str) for row in rows)
        write_file(folder / "records.jsonl", "".join(f"{line}\n" for line in lines).encode())
        content = {"records": {"source": "records.jsonl", "split": "split"}, "bases": {place.plan.base.name: str(place.base)}}
        write_settings(folder / "institution.toml", InstitutionSettings.model_validate(content))
        write_policy(folder / "policy.toml", policy)
        Identity.generate(name, os.urandom).save(folder / "identity.key")
    for name in place.names:
        write_membership(place.institutions / name, Membership(name, place.roster, place.operator.public_key))
    write_home(place.out, place.plan, read_config(place.base), place.roster)


def _check_ours(out: Path) -> None:
    strange = {path.name for path in out.iterdir()} - {"institutions", "identity.key"}
    if strange:
        raise SimulationError(f"{out} holds files that no simulation made; give another --out")


def _remove(out: Path) -> None:
    if not (out / "institutions").is_dir() and any(out.iterdir()):
        raise SimulationError(f"{out} holds files that no simulation made; give another --out")
    for name in ("institutions", "runs", "models", "baselines"):
        shutil.rmtree(out / name, ignore_errors=True)
    for pattern in ("registry.db*", "identity.key", "report.json", "plan.json", "config.json", "roster.json", "picture.png"):
        for path in out.glob(pattern):
            path.unlink()
