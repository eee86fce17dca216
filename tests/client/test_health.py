"""Health checks: a sign of life that is young, of the halves that are asked about."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.errors import SettingsError
from client.health import NODE, SUPERNODE, problem_of
from client.running import SUPERNODE_FILES, separate_supernode


def sign(folder: Path, name: str, age: float = 0.0) -> None:
    (folder / "flower").mkdir(exist_ok=True)
    (folder / "flower" / name).touch()
    os.utime(folder / "flower" / name, (time.time() - age,) * 2)


def test_each_half_has_its_own_sign(tmp_path: Path) -> None:
    assert "the supernode" in (problem_of(tmp_path) or "")
    sign(tmp_path, "alive", age=100.0)
    assert problem_of(tmp_path, [SUPERNODE]) is None
    assert "the node" in (problem_of(tmp_path) or "")
    sign(tmp_path, "answered")
    assert problem_of(tmp_path) is None
    sign(tmp_path, "answered", age=400.0)
    assert "no sign of life for 400 s" in (problem_of(tmp_path, [NODE]) or "")


def test_the_command_ends_with_0_or_1(tmp_path: Path) -> None:
    call = ["health", "--institution", str(tmp_path), "--only", "node"]
    assert CliRunner().invoke(app, call).exit_code == 1
    sign(tmp_path, "answered")
    done = CliRunner().invoke(app, call)
    assert (done.exit_code, done.output) == (0, "the node answers\n")
    assert json.loads(CliRunner().invoke(app, [*call, "--json"]).output) == {"schema": 1, "ok": True, "parts": ["node"], "problem": None}
    done = CliRunner().invoke(app, ["health", "--institution", str(tmp_path), "--json"])
    assert done.exit_code == 1 and "the supernode" in json.loads(done.output)["problem"]


def test_a_supernodes_folder_holds_what_it_needs_and_no_more(tmp_path: Path) -> None:
    own, other = tmp_path / "amber", tmp_path / "supernode"
    own.mkdir()
    for name in ("connection.toml", "ca.pem", "node.key", "identity.key", "tls.key", "institution.toml"):
        (own / name).write_text(name)
    separate_supernode(own, other)
    assert sorted(path.name for path in other.iterdir()) == sorted(SUPERNODE_FILES)
    assert {path.stat().st_mode & 0o777 for path in other.iterdir()} == {0o600}
    secret = (own / "runtime.secret").read_bytes()
    assert (other / "runtime.secret").read_bytes() == secret
    separate_supernode(own, other)
    assert (other / "runtime.secret").read_bytes() == secret
    with pytest.raises(SettingsError, match="the institution's own folder"):
        separate_supernode(own, other / ".." / own.name)


def test_an_institution_that_has_not_joined_has_nothing_to_separate(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        separate_supernode(tmp_path, tmp_path / "supernode")
