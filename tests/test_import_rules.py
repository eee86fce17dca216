"""Imports go one way, and what must stay light does."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("consortium", "protocols", "model", "client", "coordinator")
ALLOWED = {
    "protocols": ("protocols",),
    "model": ("model",),
    "client": ("client", "protocols", "model"),
    "coordinator": ("coordinator", "protocols", "model.config", "model.layout"),
    "consortium": OURS,
}
FLOWER = {
    "client/client_app.py",
    "client/flower_node.py",
    "coordinator/server_app.py",
    "coordinator/flower_link.py",
    "coordinator/exchange.py",
    "protocols/wire.py",
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", OURS)
def test_imports_go_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for name in imports(path):
            if within(name, OURS):
                assert within(name, ALLOWED[package]), f"{path.relative_to(ROOT)} imports {name}"


def test_flower_is_touched_where_it_may_be() -> None:
    for package in ("protocols", "model", "client", "coordinator"):
        for path in (ROOT / package).rglob("*.py"):
            if any(within(name, ("flwr",)) for name in imports(path)):
                assert str(path.relative_to(ROOT)) in FLOWER


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("model.config", ("torch",)),
        ("model.layout", ("torch",)),
        ("protocols.secagg", ("torch", "flwr")),
        ("coordinator.registry", ("torch", "flwr")),
        ("coordinator.cli", ("torch", "sqlalchemy")),
        ("consortium.cli", ("torch", "flwr", "sqlalchemy", "pyarrow", "matplotlib")),
    ],
)
def test_what_must_stay_light_does(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {module}; print([m for m in {absent!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
