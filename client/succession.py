"""An institution that comes back under new keys: its ledger and its roster move from the folder that it had into the new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from client.begun import mark_begun
from client.errors import JoiningError
from client.institution import read_membership, write_membership
from client.only_node import check_no_node
from client.settings import load_settings
from protocols.files import sync_directory, write_file
from protocols.invitation import InvitationFile
from protocols.roster import Roster

LEDGER = "ledger.db"


def check_former(former: Path, folder: Path, invitation: InvitationFile) -> None:
    """Raises JoiningError unless `former` is another folder of the invited institution, at the same coordinator."""
    membership = read_membership(former)
    if former.resolve() == folder.resolve():
        raise JoiningError(f"{former} is the folder with the former keys; name a new one with --institution")
    if (membership.name, membership.coordinator_key.hex()) != (invitation.institution, invitation.coordinator_key):
        raise JoiningError(f"{former} is not a folder of {invitation.institution} at this coordinator; name the one that it had")


def take_over(former: Path, folder: Path, sleep: Callable[[float], None]) -> None:
    """Moves the ledger, so that promises and spent epsilon are not forgotten, and copies roster and policy; repeated, it goes on.

    Raises:
        ConsortiumError: a node answers from the former folder, both folders have a ledger, or they are on two disks.
    """
    before, after = (Path(load_settings(one / "institution.toml").storage.home) for one in (former, folder))
    if not (before / LEDGER).exists():
        return
    if after.exists():
        raise JoiningError(f"{before} and {after} both have a ledger, and an institution has one; begin in a folder that is empty")
    check_no_node(before, sleep)
    _copy_roster(former, folder)
    write_file(folder / "policy.toml", (former / "policy.toml").read_bytes())
    mark_begun(folder)
    try:
        before.rename(after)
    except OSError as error:
        raise JoiningError(f"{before} cannot become {after} ({error.strerror}); name a new folder on the same disk") from None
    sync_directory(after.parent)
    sync_directory(before.parent)


def _copy_roster(former: Path, folder: Path) -> None:
    """As it was, with the new key in the place of the own one, which stays among the former keys: it signed what is past."""
    own, membership = read_membership(folder), read_membership(former)
    (entry,) = [one for one in own.roster.entries if one.name == own.name]
    roster = Roster(tuple(entry if one.name == own.name else one for one in membership.roster.entries))
    write_membership(folder, replace(own, roster=roster, former=membership.parties.replaced_by(roster).former))
