"""The folder of a simulation: plan, records and settings of every institution, keys, registry, models, report."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from client.institution import Membership, write_membership
from client.settings import HardwareSettings, InstitutionSettings, load_settings, write_settings
from consortium.errors import SimulationError
from consortium.preparation import Preparation, check_device
from coordinator.home import operator_identity, write_home
from model.config import read_config
from protocols.files import write_file
from protocols.identity import Identity
from protocols.plan import Plan
from protocols.policy import Policy, write_policy
from protocols.roster import Roster, RosterEntry

MARKER = "consortium-simulation.json"  # written first: only a folder that has it is gone on with, or emptied
RESULTS = ("report.json", "picture.png", "registry.db", "registry.db-wal", "registry.db-shm", "runs", "models", "baselines")
INPUTS = ("institutions", "identity.key", "config.json", "roster.json")


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

    @property
    def hardware(self) -> HardwareSettings:
        """What the base is held on, which all share: as the first institution by name has it, for the baselines too."""
        return self.settings(min(self.names)).hardware

    def identity(self, name: str) -> Identity:
        return Identity.load(name, self.institutions / name / "identity.key")

    @property
    def operator(self) -> Identity:
        return operator_identity(self.out, os.urandom)

    @property
    def roster(self) -> Roster:
        return Roster(tuple(RosterEntry(name, self.identity(name).public_key) for name in sorted(self.names)))


def open_workplace(prepared: Preparation, out: Path, overwrite: bool, device: str | None = None) -> Workplace:
    """Makes the folder of a simulation, on the CPU unless `device` says otherwise, or opens that of the same plan, seed and records again.

    Raises:
        SimulationError: `out` holds something else; nothing in it was changed.
    """
    place = Workplace(out, prepared.plan, tuple(prepared.copies), prepared.base)
    earlier = _earlier_records(out)
    if earlier is not None and not overwrite and _is_complete(place):
        if (earlier, place.plan_file.read_bytes()) != (prepared.records_sha256, prepared.plan.canonical()):
            raise SimulationError(f"{out} holds a run of another plan, seed or records; give --overwrite to replace it, or another --out")
        _check_device(place, device)
        return place
    device = device or "cpu"
    check_device(device)
    if earlier is not None:
        _remove(out)
    _make(place, prepared, device)
    return place


def _earlier_records(out: Path) -> str | None:
    """The hash of the records that the simulation in `out` was made of; None where nothing is there.

    Raises:
        SimulationError: `out` is a file, or a folder that no simulation made.
    """
    if out.exists() and not out.is_dir():
        raise SimulationError(f"{out} is a file, and a simulation needs a folder; move it away or give another --out")
    marker = out / MARKER
    # A process that was killed may have left the marker under its temporary name.
    if not out.exists() or all(path.name.startswith(f".{MARKER}.") for path in out.iterdir()):
        return None
    if not marker.exists():
        raise SimulationError(f"{out} holds files that no simulation made; move them away or give another --out")
    try:
        return str(json.loads(marker.read_text(encoding="utf-8"))["records_sha256"])
    except (ValueError, KeyError, TypeError):
        raise SimulationError(f"{marker} is damaged, so this may be no simulation's folder; move it away or give another --out") from None


def _is_complete(place: Workplace) -> bool:
    """Whether everything was made; what was begun and holds no result may be made anew."""
    if not place.plan_file.exists() and any((place.out / name).exists() for name in RESULTS):
        raise SimulationError(f"{place.out} holds a run without its plan.json; give --overwrite to replace it, or another --out")
    return place.plan_file.exists()


def _check_device(place: Workplace, device: str | None) -> None:
    """Baselines and rounds of one report come from one device, whose bits are not another's."""
    before = place.hardware.device
    if device not in (None, before):
        raise SimulationError(f"{place.out} holds a run on {before}; go on with --device {before}, give --overwrite, or another --out")


def _make(place: Workplace, prepared: Preparation, device: str) -> None:
    """Everything that this simulation needs, and stock Flower's (`flwr run`) too; the marker comes first and the plan last."""
    write_file(place.out / MARKER, json.dumps({"schema": 1, "records_sha256": prepared.records_sha256}).encode())
    group = place.plan.simulation.group if place.plan.simulation else ""
    policy, ranks = _policy(place.plan), place.plan.simulation.max_ranks if place.plan.simulation else ()
    for (name, copy), rank in zip_longest(prepared.copies.items(), ranks):
        folder = place.institutions / name
        folder.mkdir(parents=True)
        write_file(folder / "records.jsonl", copy)
        content: dict[str, Any] = {
            "records": {"source": "records.jsonl", "split": "split", "group": group},
            "bases": {place.plan.base.name: str(place.base)},
            "hardware": {"device": device, "max_rank": rank},
        }
        write_settings(folder / "institution.toml", InstitutionSettings.model_validate(content))
        write_policy(folder / "policy.toml", policy)
        Identity.generate(name, os.urandom).save(folder / "identity.key")
    for name in place.names:
        write_membership(place.institutions / name, Membership(name, place.roster, place.operator.public_key))
    write_home(place.out, place.plan, read_config(place.base), place.roster)


def _policy(plan: Plan) -> Policy:
    """Allows what the plan asks, and no more."""
    sums, allowed = plan.secure_aggregation, Policy()
    policy = Policy(min_institutions=sums.min_institutions, colluding=sums.colluding, suites=(sums.suite,))
    if plan.privacy is None:
        return policy
    asked = {"max_epsilon": max(plan.privacy.epsilon, allowed.max_epsilon), "max_delta": plan.privacy.delta}
    return policy.model_copy(update=asked)


def _remove(out: Path) -> None:
    """Takes away what a simulation makes, and nothing else; the plan goes first, because it says that the folder is complete."""
    for path in (out / name for name in ("plan.json", *RESULTS, *INPUTS)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
