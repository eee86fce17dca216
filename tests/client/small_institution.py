"""An institution's folder with forty records of colours on the bundled base, and plans for it."""

from __future__ import annotations

import json
from pathlib import Path

from client.institution import Membership, write_membership
from client.settings import InstitutionSettings, write_settings
from model.bases import bundled_base
from protocols.identity import Identity
from protocols.plan import Plan, parse_plan
from protocols.policy import Policy, write_policy
from protocols.roster import Roster, RosterEntry

COLOURS = ("red", "green", "blue", "pale green")
THINGS = ("grass", "the sky", "a rose", "lettuce")


def small_plan(**tables: object) -> Plan:
    """One round of two steps; it names no base hash."""
    content = {
        "name": "colours",
        "rounds": 1,
        "base": "tiny",
        "records": {"prompt": "what colour is {text}? answer:", "target": " {label}", "max_tokens": 32, "too_long": "truncate"},
        "trainable": {"lora_rank": 2, "targets": ["attention"], "experts": "none", "mtp": False},
        "training": {"local_steps": 2, "batch_size": 4, "learning_rate": 1e-2},
        "evaluation": {"choices": [f" {colour}" for colour in COLOURS]},
    }
    return parse_plan(content | tables, "plan")


def write_institution(folder: Path, members: int = 1, policy: Policy | None = None) -> Path:
    """The folder of `ada`, whose roster lists so many institutions."""
    folder.mkdir(parents=True)
    names = ("ada", *(f"other-{number}" for number in range(1, members)))
    identities = [Identity(name, bytes([number + 1]) * 32) for number, name in enumerate(names)]
    identities[0].save(folder / "identity.key")
    roster = Roster(tuple(RosterEntry(identity.name, identity.public_key) for identity in identities))
    write_membership(folder, Membership("ada", roster, bytes(32)))
    write_policy(folder / "policy.toml", policy or Policy())
    rows = [
        {"text": f"{THINGS[n % 4]} {n // 4}", "label": COLOURS[n % 4], "split": "test" if n < 8 else "train", "patient": f"p{n}"}
        for n in range(40)
    ]
    (folder / "records.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    content = {"records": {"source": "records.jsonl", "split": "split"}, "bases": {"tiny": str(bundled_base("tiny"))}}
    write_settings(folder / "institution.toml", InstitutionSettings.model_validate(content))
    return folder
