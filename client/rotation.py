"""A new identity key: made here, signed by the old one, confirmed by the registry, and only then in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from client.institution import FORMER_KEY, read_membership, write_membership
from protocols.files import write_file
from protocols.identity import Identity
from protocols.roster import Roster
from protocols.roster_offer import rotation
from protocols.service import RotateRequest

NEXT_KEY = "identity.next.key"  # while a rotation is not confirmed


def rotate(folder: Path, send: Callable[[RotateRequest], object], randomness: Callable[[int], bytes], today: str) -> Identity:
    """Replaces the identity key; repeated after a crash or a lost connection, it goes on with the same new key.

    The former key stays beside it for epochs that began under it; from the next epoch on the new one signs, as far as the other
    institutions have accepted it.

    Args:
        send: hands the signed rotation to the registry, or raises.
        today: ISO date, kept beside the former key on the roster.

    Raises:
        ConsortiumError: a key file is damaged, or the registry did not take the new key; then the old one stays.
    """
    name = read_membership(folder).name
    old, new = Identity.load(name, folder / "identity.key"), _next_identity(name, folder, randomness)
    if old.public_key != new.public_key:  # else the process died on the last step
        signed = rotation(name, old, new)
        send(RotateRequest(signed, new.sign(signed.signed())))
        write_file(folder / FORMER_KEY, (folder / "identity.key").read_bytes(), mode=0o600)
        _write_own_entry(folder, new, today)
        write_file(folder / "identity.key", (folder / NEXT_KEY).read_bytes(), mode=0o600)
    (folder / NEXT_KEY).unlink()
    return new


def _next_identity(name: str, folder: Path, randomness: Callable[[int], bytes]) -> Identity:
    path = folder / NEXT_KEY
    if not path.exists():
        Identity.generate(name, randomness).save(path)
    return Identity.load(name, path)


def _write_own_entry(folder: Path, new: Identity, today: str) -> None:
    membership = read_membership(folder)
    entries = tuple(
        replace(entry, public_key=new.public_key) if entry.name == membership.name else entry for entry in membership.roster.entries
    )
    parties = membership.parties.replaced_by(Roster(entries), today)
    write_membership(folder, replace(membership, roster=parties.roster, former=parties.former))
