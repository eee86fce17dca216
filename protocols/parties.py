"""`roster.toml`: the institutions that one takes part with and the coordinator whose requests one answers, as a file for people."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.commented import quoted
from protocols.errors import RosterError
from protocols.roster import Roster, RosterEntry

_VALIDITY = ("valid_from", "valid_until")


@dataclass(frozen=True, slots=True)
class Parties:
    """Everyone whose signature counts."""

    roster: Roster
    coordinator_key: bytes  # Ed25519, 32 bytes


def parties_toml(parties: Parties) -> str:
    """The keys and days of all parties, to be read by `parties_of`."""
    lines = [f'coordinator = "{parties.coordinator_key.hex()}"']
    for entry in parties.roster.entries:
        lines += ["", "[[institutions]]", f"name = {quoted(entry.name)}", f'public_key = "{entry.public_key.hex()}"']
        lines += [f'{field} = "{day}"' for field in _VALIDITY if (day := getattr(entry, field))]
    return "\n".join([*lines, ""])


def parties_of(content: Mapping[str, Any]) -> Parties:
    """The parties in a file's tables; dates may be written as text or as TOML's own, without them an entry is valid on every day.

    Raises:
        ValueError, KeyError, TypeError: it lacks something or holds something else. RosterError: the roster contradicts itself.
    """
    entries = tuple(_entry_of(table) for table in content["institutions"])
    return Parties(Roster(entries), bytes.fromhex(content["coordinator"]))


def read_parties(path: Path) -> Parties:
    """The parties that a `roster.toml` lists.

    Raises:
        RosterError: the file cannot be read, or is no roster.
    """
    try:
        return parties_of(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise RosterError(f"{path} cannot be read; give an institution's roster.toml") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RosterError(f"{path} is not a roster; give an institution's roster.toml") from None


def text_of(value: object) -> str:
    """Raises TypeError for what is no text."""
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _entry_of(table: Mapping[str, Any]) -> RosterEntry:
    validity = [str(table.get(field, "")) for field in _VALIDITY]
    return RosterEntry(text_of(table["name"]), bytes.fromhex(table["public_key"]), *validity)
