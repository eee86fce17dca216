"""Health checks: a sign of life that is young, of the halves that are asked about."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.errors import SettingsError
from client.health import NODE, SUPERNODE, problem_of
from client.only_node import only_node, only_supernode
from client.running import SUPERNODE_FILES, separate_supernode
from client.settings import load_settings
from tests.client.small_institution import write_institution


def sign(folder: Path, name: str, age: float = 0.0) -> None:
    (folder / "flower").mkdir(exist_ok=True)
    (folder / "flower" / name).touch()
    os.utime(folder / "flower" / name, (time.time() - age,) * 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_institution(tmp_path / "ada")


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """The locks that SuperNode's keeper and node hold."""
    with only_supernode(folder), only_node(Path(load_settings(folder / "institution.toml").storage.home)):
        yield


def test_each_half_has_its_own_sign(folder: Path) -> None:
    with running(folder):
        assert "the supernode" in (problem_of(folder) or "")
        sign(folder, "alive", age=100.0)
        assert problem_of(folder, [SUPERNODE]) is None
        assert "the node" in (problem_of(folder) or "")
        sign(folder, "answered")
        assert problem_of(folder) is None
        sign(folder, "answered", age=400.0)
        assert "no sign of life for 400 s" in (problem_of(folder, [NODE]) or "")


def test_whose_process_ended_does_not_work_however_young_its_sign_is(folder: Path) -> None:
    for name in ("alive", "answered"):
        sign(folder, name)
    with only_supernode(folder):
        assert problem_of(folder, [SUPERNODE]) is None
        assert "the node of" in (problem_of(folder) or "") and "does not run" in (problem_of(folder) or "")
    assert "the supernode of" in (problem_of(folder) or "") and "does not run" in (problem_of(folder) or "")
    assert "does not exist" in (problem_of(folder / "none") or "")


def test_a_supernodes_own_folder_is_enough_to_ask_about_it(tmp_path: Path) -> None:
    sign(tmp_path, "alive")
    with only_supernode(tmp_path):
        assert problem_of(tmp_path, [SUPERNODE]) is None


def test_the_command_ends_with_0_or_1(folder: Path) -> None:
    call = ["health", "--institution", str(folder), "--only", "node"]
    assert CliRunner().invoke(app, call).exit_code == 1
    sign(folder, "answered")
    with running(folder):
        done = CliRunner().invoke(app, call)
        assert (done.exit_code, done.output) == (0, "the node answers\n")
        told = json.loads(CliRunner().invoke(app, [*call, "--json"]).output)
    assert told == {"schema": 1, "ok": True, "parts": ["node"], "problem": None}
    done = CliRunner().invoke(app, ["health", "--institution", str(folder), "--json"])
    assert done.exit_code == 1 and "the supernode" in json.loads(done.output)["problem"]
    (folder / "institution.toml").unlink()
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 1 and "institution.toml: there is no readable file" in done.output


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
