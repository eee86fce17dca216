"""The roster: who an institution is, by name and identity key. It belongs to the institutions (PROTOCOL, section 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from protocols.codec import Message
from protocols.errors import RosterError
from protocols.pack import pack


@dataclass(frozen=True)
class RosterEntry(Message):
    """One institution, its Ed25519 identity key (32 bytes), and the first and last day of it: ISO dates, empty where unbounded.

    Raises:
        RosterError: a date is none, or the last day is before the first.
    """

    name: str
    public_key: bytes
    valid_from: str = ""
    valid_until: str = ""

    def __post_init__(self) -> None:
        for day in (self.valid_from, self.valid_until):
            if day and not _is_date(day):
                raise RosterError(f"the roster says {day} of {self.name}; write a date as 2030-01-31, or leave it empty")
        if self.valid_until and self.valid_until < self.valid_from:
            raise RosterError(f"the roster ends {self.name} on {self.valid_until}, before it begins on {self.valid_from}; mend the dates")


@dataclass(frozen=True)
class FormerKey(Message):
    """A key that an institution had until a day (ISO date), after which it has another or none: it proves the past and begins nothing."""

    name: str
    public_key: bytes
    until: str = ""


@dataclass(frozen=True)
class Roster(Message):
    """Entries in order of name."""

    entries: tuple[RosterEntry, ...]

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.entries]
        if names != sorted(set(names)):
            raise RosterError("a roster lists each institution once, in order of name; sort it and remove what is double")
        if len({entry.public_key for entry in self.entries}) < len(names):
            raise RosterError("two institutions of this roster have one key; each institution makes its own")

    def hash_of(self, members: Iterable[str]) -> bytes:
        """What binds an epoch of these members to names and keys. Days are left out: each institution checks those of its own copy.

        Raises:
            RosterError: one of them is not on the roster.
        """
        return members_hash({name: self.key_of(name) for name in members})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.entries)

    def key_of(self, name: str) -> bytes:
        """The identity key of an institution.

        Raises:
            RosterError: there is no such institution.
        """
        return self._entry(name).public_key

    def check_valid(self, names: Iterable[str], today: date) -> None:
        """Raises RosterError unless the entries of all these institutions are valid on a day."""
        day = today.isoformat()
        for entry in map(self._entry, names):
            if not entry.valid_from <= day <= (entry.valid_until or day):
                span = f"from {entry.valid_from or 'the beginning'} until {entry.valid_until or 'further notice'}"
                raise RosterError(f"{entry.name} is on the roster {span} and today is {day}; leave it out, or agree on a new roster")

    def _entry(self, name: str) -> RosterEntry:
        if name not in self._by_name:
            raise RosterError(f"{name} is not on this roster; compare its fingerprint and accept it first")
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, RosterEntry]:
        return {entry.name: entry for entry in self.entries}


def members_hash(keys: Mapping[str, bytes]) -> bytes:
    """SHA-256 of names and identity keys, in order of name."""
    return hashlib.sha256(b"consortium members 1\0" + pack(dict(sorted(keys.items())))).digest()


def roster_of(members: Sequence[str], digest: bytes, roster: Roster, former: Sequence[FormerKey]) -> Roster:
    """The members with the keys that `members_hash` gave `digest` for: today's, or those before the last changes, oldest change first.

    Where none fit, today's keys of those that are on the roster: whoever checks an epoch against them refuses it.
    """
    present = {entry.name: entry for entry in roster.entries if entry.name in members}
    known = dict(present)
    for change in (None, *reversed(former)):
        if change is not None and change.name in members:
            known[change.name] = RosterEntry(change.name, change.public_key)
        if members_hash({name: entry.public_key for name, entry in known.items()}) == digest:
            return Roster(tuple(known[name] for name in sorted(known)))
    return Roster(tuple(present[name] for name in sorted(present)))


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
