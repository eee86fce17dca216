"""An institution's folder: `institution.toml`, `policy.toml`, `identity.key`, `roster.toml`, and the node's home; opened, it is a node."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from client.errors import SettingsError
from client.ledger import Ledger
from client.node import Node
from client.settings import load_settings
from client.work import Work
from protocols.commented import quoted
from protocols.files import write_file
from protocols.identity import Identity
from protocols.parties import Parties, parties_of, parties_toml, text_of
from protocols.plan import Plan
from protocols.policy import load_policy
from protocols.roster import FormerKey, Roster

FORMER_KEY = "identity.former.key"  # beside identity.key after a rotation


@dataclass(frozen=True, slots=True)
class Membership:
    """Who this institution is, whom it trusts as members, and whose requests it answers."""

    name: str
    roster: Roster
    coordinator_key: bytes
    former: tuple[FormerKey, ...] = ()

    @property
    def parties(self) -> Parties:
        return Parties(self.roster, self.coordinator_key, self.former)


def write_membership(folder: Path, membership: Membership) -> None:
    """Writes `roster.toml`."""
    write_file(folder / "roster.toml", f"name = {quoted(membership.name)}\n{parties_toml(membership.parties)}".encode())


def read_membership(folder: Path) -> Membership:
    """Reads `roster.toml`.

    Raises:
        SettingsError: the file is missing, or not what `write_membership` writes.
    """
    path = folder / "roster.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        parties = parties_of(content)
        return Membership(text_of(content["name"]), parties.roster, parties.coordinator_key, parties.former)
    except OSError:
        raise SettingsError(f"{path} cannot be read; it lists the institutions that this one takes part with") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SettingsError(f"{path} is not a roster; restore it, or join again") from None


def open_node(
    folder: Path,
    open_work: Callable[[Plan], Work],
    clock: Callable[[], datetime],
    rounding_seed: bytes | None = None,
) -> Node:
    """The institution in `folder` as a node, with its ledger open.

    Raises:
        ConsortiumError: a file of the folder is missing or damaged; the sentence names it.
    """
    membership = read_membership(folder)
    identity = Identity.load(membership.name, folder / "identity.key")
    storage = load_settings(folder / "institution.toml").storage
    ledger = Ledger.open(Path(storage.home), clock)
    policy = load_policy(folder / "policy.toml")
    own = (identity, membership.roster, membership.coordinator_key, policy, ledger, open_work, os.urandom)
    node = Node(*own, local_time=lambda: clock().astimezone(), rounding_seed=rounding_seed, checkpoint_seconds=storage.checkpoint_seconds)
    return reread(node, folder)


def reread(node: Node, folder: Path) -> Node:
    """The node with identity, roster and policy as they are in its folder now; its ledger stays open.

    Raises:
        ConsortiumError: a file is missing or damaged.
    """
    membership = read_membership(folder)
    return replace(
        node,
        identity=Identity.load(membership.name, folder / "identity.key"),
        former_identity=_former_identity(membership.name, folder),
        roster=membership.roster,
        coordinator_key=membership.coordinator_key,
        former=membership.former,
        policy=load_policy(folder / "policy.toml"),
    )


def _former_identity(name: str, folder: Path) -> Identity | None:
    path = folder / FORMER_KEY
    return Identity.load(name, path) if path.exists() else None
