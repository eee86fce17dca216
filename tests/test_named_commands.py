"""A command that a text of the program or of its documentation names is one that this version has."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import typer

from consortium.cli import app

ROOT = Path(__file__).parent.parent
PACKAGES = ("consortium", "protocols", "model", "client", "coordinator")
PAGES = sorted((ROOT / "docs").glob("*.md"))
FILES = [ROOT / "README.md", *PAGES, *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))]
NAMED = re.compile(r"(?:`|consortium )(client|coordinator|model|plan) ([a-z][a-z-]*)(?! \d)\b")  # a hash's domain ends with a digit


def _commands() -> set[tuple[str, str]]:
    groups = typer.main.get_command(app)
    assert isinstance(groups, click.Group)
    return {(name, command) for name, group in groups.commands.items() if isinstance(group, click.Group) for command in group.commands}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_that_is_named_exists(path: Path) -> None:
    named = set(NAMED.findall(path.read_text(encoding="utf-8")))
    assert named <= _commands()


def test_the_pattern_finds_commands() -> None:
    assert NAMED.findall("`coordinator submit`, consortium client init writes one") == [("coordinator", "submit"), ("client", "init")]
