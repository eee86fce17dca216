"""The roster: who an institution is, by name and identity key. It belongs to the institutions (PROTOCOL, section 1)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from protocols.codec import Message
from protocols.errors import RosterError


@dataclass(frozen=True)
class RosterEntry(Message):
    """One institution and its Ed25519 identity key (32 bytes)."""

    name: str
    public_key: bytes


@dataclass(frozen=True)
class Roster(Message):
    """Entries in order of name; two rosters with equal entries have equal hashes."""

    entries: tuple[RosterEntry, ...]

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.entries]
        if names != sorted(set(names)):
            raise RosterError("a roster lists each institution once, in order of name; sort it and remove what is double")
        if len({entry.public_key for entry in self.entries}) < len(names):
            raise RosterError("two institutions of this roster have one key; each institution makes its own")

    @classmethod
    def from_keys(cls, keys: Iterable[tuple[str, str]]) -> Self:
        """A roster of names and keys in hexadecimal.

        Raises:
            ValueError: a key is not hexadecimal. RosterError: a name or key occurs twice.
        """
        return cls(tuple(RosterEntry(name, bytes.fromhex(key)) for name, key in sorted(keys)))

    @property
    def roster_hash(self) -> bytes:
        return self.hash

    def key_of(self, name: str) -> bytes:
        """The identity key of an institution.

        Raises:
            RosterError: there is no such institution.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry.public_key
        raise RosterError(f"{name} is not on this roster; compare its fingerprint and accept it first")


def read_roster(path: Path) -> Roster:
    """The institutions that a `roster.toml` lists.

    Raises:
        RosterError: the file cannot be read, or is no roster.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))["institutions"]
        return Roster.from_keys((table["name"], table["public_key"]) for table in tables)
    except OSError:
        raise RosterError(f"{path} cannot be read; it lists the institutions that one takes part with") from None
    except (ValueError, KeyError, TypeError):
        raise RosterError(f"{path} is not a roster; restore it, or join again") from None
