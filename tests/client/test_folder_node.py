"""What a person accepts in an institution's folder holds at the next message, without a restart."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client.folder_node import FolderNode
from client.institution import Membership, open_node, read_membership, write_membership
from client.rotation import rotate
from client.settings import InstitutionSettings, write_settings
from protocols.errors import ConsortiumError
from protocols.identity import Identity
from protocols.policy import Policy, write_policy
from protocols.roster import Roster, RosterEntry

ADA = Identity("ada", b"a" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    settings = InstitutionSettings.model_validate({"records": {"source": "r.jsonl", "test_fraction": 0.2}})
    write_settings(tmp_path / "institution.toml", settings)
    write_membership(tmp_path, Membership("ada", Roster((RosterEntry("ada", ADA.public_key),)), b"o" * 32))
    write_policy(tmp_path / "policy.toml", Policy())
    ADA.save(tmp_path / "identity.key")
    return tmp_path


def no_work(_: object) -> Any:
    raise AssertionError


@pytest.fixture
def watched(folder: Path) -> FolderNode:
    return FolderNode(folder, open_node(folder, no_work, lambda: datetime(2030, 1, 1, tzinfo=UTC)))


def test_unchanged_files_give_the_same_node(watched: FolderNode) -> None:
    assert watched.current() is watched.current()


def test_roster_policy_and_key_are_read_again_and_the_ledger_stays_open(folder: Path, watched: FolderNode) -> None:
    before, membership = watched.current(), read_membership(folder)
    write_membership(folder, replace(membership, roster=Roster((*membership.roster.entries, RosterEntry("bea", b"b" * 32)))))
    write_policy(folder / "policy.toml", Policy(min_institutions=5))
    new = rotate(folder, lambda _: None, os.urandom, "2030-01-01")
    after = watched.current()
    assert after.roster.names == ("ada", "bea") and after.policy.min_institutions == 5 and after.ledger is before.ledger
    assert after.identity.public_key == new.public_key and after.former_identity is not None
    assert after.former_identity.public_key == ADA.public_key


def test_damaged_file_answers_nothing_until_it_is_mended(folder: Path, watched: FolderNode) -> None:
    watched.current()
    good = (folder / "roster.toml").read_bytes()
    (folder / "roster.toml").write_text("institutions = 3")
    for _ in range(2):
        with pytest.raises(ConsortiumError, match="is not a roster"):
            watched.current()
    (folder / "roster.toml").write_bytes(good)
    assert watched.current().roster.names == ("ada",)
