"""A copy of the operator's folder, taken in the documented order while a run goes on, verifies in a new place."""

from __future__ import annotations

import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.events import Event, RoundFinished
from coordinator.operator_home import make_operator_home, open_operator_home
from coordinator.settings import CoordinatorSettings
from tests.federation.federation import Federation, make_plan

ROOT = Path(__file__).parents[2]
FOLDERS, FILES = ("runs", "models", "tls", "bases"), ("coordinator.toml", "identity.key")


def now() -> datetime:
    return datetime.now(UTC)


def back_up(home: Path, copy: Path) -> None:
    """In the order of docs/operate.md: the registry first."""
    copy.mkdir()
    done = CliRunner().invoke(app, ["db", "backup", str(copy / "registry.db"), "--registry", str(home / "registry.db")])
    assert done.exit_code == 0, done.output
    for name in FOLDERS:
        if (home / name).exists():
            shutil.copytree(home / name, copy / name)
    for name in FILES:
        shutil.copy2(home / name, copy / name)


def test_a_copy_that_was_taken_during_a_run_verifies_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, copy, late = tmp_path / "operator", tmp_path / "copy", tmp_path / "late"
    key = make_operator_home(home, CoordinatorSettings(), now, os.urandom).identity.public_key

    def copied(event: Event) -> None:
        if isinstance(event, RoundFinished) and event.round == 1:
            back_up(home, copy)

    federation = Federation(home, make_plan())
    run = federation.run(copied).run
    federation.close()
    back_up(home, late)
    for place, rounds in ((copy, 2), (late, 3)):
        done = CliRunner().invoke(app, ["verify", "--registry", str(place / "registry.db")])
        assert done.exit_code == 0, done.output
        restored = open_operator_home(place)
        assert restored.identity.public_key == key and restored.authority(now, os.urandom)
        registry = restored.open_registry(now, read_only=True)
        assert len(registry.rounds(run)) == rounds
        registry.close()


def test_the_page_names_everything_in_an_operators_folder(tmp_path: Path) -> None:
    """What is there after `init`, and what `serve` makes, is in the section on backup."""
    make_operator_home(tmp_path / "operator", CoordinatorSettings(), now, os.urandom)
    text = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    section = text[text.index("## Backup and restore") : text.index("## Upgrading")]
    named = set(re.findall(r"`([a-z.-]+)/?`", section))
    made = {path.name for path in (tmp_path / "operator").iterdir()} - {"registry.db-wal", "registry.db-shm"}
    assert made | set(FOLDERS) | set(FILES) | {"superlink", "figures", "logs", "heartbeat"} <= named
