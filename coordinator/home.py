"""A coordinator's folder for one plan: the plan as it runs, the base's sizes, the operator's key and the roster."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from coordinator.errors import SettingsError
from model.config import ModelConfig, read_config
from protocols.files import write_file
from protocols.identity import Identity
from protocols.plan import Plan, plan_from_canonical
from protocols.roster import Roster, RosterEntry

OPERATOR = "coordinator"


@dataclass(frozen=True, slots=True)
class Home:
    """What a run needs beside the registry: no weights, no records."""

    folder: Path
    plan: Plan
    config: ModelConfig
    identity: Identity
    roster: Roster


def write_home(folder: Path, plan: Plan, config: ModelConfig, roster: Roster) -> None:
    """Writes everything but the key: `config.json`, `roster.json`, and last `plan.json`, which says that the folder is complete."""
    write_file(folder / "config.json", json.dumps(config.to_dict(), indent=1, sort_keys=True).encode())
    entries = {entry.name: {"public_key": entry.public_key.hex(), **_validity(entry)} for entry in roster.entries}
    write_file(folder / "roster.json", json.dumps(entries, indent=1, sort_keys=True).encode())
    write_file(folder / "plan.json", plan.canonical())


def operator_identity(folder: Path, randomness: Callable[[int], bytes]) -> Identity:
    """The coordinator's key in `folder`, made on first use."""
    path = folder / "identity.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        Identity.generate(OPERATOR, randomness).save(path)
    return Identity.load(OPERATOR, path)


def open_home(folder: Path) -> Home:
    """Reads what `write_home` and `operator_identity` wrote.

    Raises:
        ConsortiumError: a file is missing or damaged; the sentence names it.
    """
    try:
        plan, entries = (folder / "plan.json").read_bytes(), json.loads((folder / "roster.json").read_text())
        roster = Roster(tuple(_read_entry(name, entry) for name, entry in sorted(entries.items())))
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        raise SettingsError(f"{folder} holds no prepared plan; `consortium simulate` prepares one") from None
    return Home(folder, plan_from_canonical(plan), read_config(folder), Identity.load(OPERATOR, folder / "identity.key"), roster)


def _validity(entry: RosterEntry) -> dict[str, str]:
    return {"valid_from": entry.valid_from, "valid_until": entry.valid_until}


def _read_entry(name: str, entry: Mapping[str, str]) -> RosterEntry:
    return RosterEntry(name, bytes.fromhex(entry["public_key"]), entry["valid_from"], entry["valid_until"])
