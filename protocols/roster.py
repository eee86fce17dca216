"""The roster: who an institution is, by name and identity key. It belongs to the institutions (PROTOCOL, section 1)."""

from __future__ import annotations

from dataclasses import dataclass

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
