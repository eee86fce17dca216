"""`roster.toml`: the institutions that one takes part with and the coordinator whose requests one answers, as a file for people."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from protocols.commented import quoted
from protocols.epoch import EpochManifest
from protocols.errors import RosterError, SignatureError
from protocols.identity import Envelope, open_envelope, open_envelope_of, sender_of
from protocols.roster import FormerKey, Roster, RosterEntry, roster_of

_VALIDITY = ("valid_from", "valid_until")


@dataclass(frozen=True, slots=True)
class Parties:
    """Everyone whose signature counts."""

    roster: Roster
    coordinator_key: bytes  # Ed25519, 32 bytes
    former: tuple[FormerKey, ...] = ()  # in the order in which they were replaced

    def roster_of(self, epoch: EpochManifest) -> Roster:
        """The epoch's members, with the keys that they had when it was agreed; see `protocols.roster.roster_of`."""
        return roster_of(epoch.members, epoch.roster_hash, self.roster, self.former)

    def keys_of(self, name: str) -> tuple[bytes, ...]:
        """An institution's present key, then those that it had before.

        Raises:
            RosterError: it is not on the roster.
        """
        return (self.roster.key_of(name), *(one.public_key for one in self.former if one.name == name))

    def open_envelope(self, data: bytes) -> Envelope:
        """An envelope that its sender signed under its present key, or under one that it had before.

        Raises:
            MalformedMessage, RosterError, SignatureError: nobody here signed it.
        """
        try:
            return open_envelope(data, self.roster)
        except (RosterError, SignatureError):
            sender = sender_of(data)
            for one in (one for one in self.former if one.name == sender):
                with suppress(SignatureError):
                    return open_envelope_of(data, one.public_key)
            raise

    def replaced_by(self, roster: Roster, today: str = "") -> Parties:
        """The same with another roster; keys that are not on it any more are former ones, until `today` (ISO date)."""
        left = set(self.roster.entries) - set(roster.entries)
        kept = {(entry.name, entry.public_key) for entry in roster.entries}
        gone = [FormerKey(one.name, one.public_key, today) for one in sorted(left, key=_name) if (one.name, one.public_key) not in kept]
        return replace(self, roster=roster, former=self.former + tuple(gone))


def parties_toml(parties: Parties) -> str:
    """The keys and days of all parties, to be read by `parties_of`."""
    lines = [f'coordinator = "{parties.coordinator_key.hex()}"']
    for entry in parties.roster.entries:
        lines += ["", "[[institutions]]", f"name = {quoted(entry.name)}", f'public_key = "{entry.public_key.hex()}"']
        lines += [f'{field} = "{day}"' for field in _VALIDITY if (day := getattr(entry, field))]
    for one in parties.former:
        lines += ["", "[[former]]", f"name = {quoted(one.name)}", f'public_key = "{one.public_key.hex()}"']
        lines += [f'until = "{one.until}"'] if one.until else []
    return "\n".join([*lines, ""])


def parties_of(content: Mapping[str, Any]) -> Parties:
    """The parties in a file's tables; dates may be written as text or as TOML's own, without them an entry is valid on every day.

    Raises:
        ValueError, KeyError, TypeError: it lacks something or holds something else. RosterError: the roster contradicts itself.
    """
    entries = tuple(_entry_of(table) for table in content["institutions"])
    former = tuple(
        FormerKey(text_of(one["name"]), bytes.fromhex(one["public_key"]), str(one.get("until", ""))) for one in content.get("former", ())
    )
    return Parties(Roster(entries), bytes.fromhex(content["coordinator"]), former)


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


def _name(entry: RosterEntry) -> str:
    return entry.name


def _entry_of(table: Mapping[str, Any]) -> RosterEntry:
    validity = [str(table.get(field, "")) for field in _VALIDITY]
    return RosterEntry(text_of(table["name"]), bytes.fromhex(table["public_key"]), *validity)
