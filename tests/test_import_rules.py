"""Who may import whom, read from the syntax of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("consortium", "protocols", "model", "client", "coordinator")
ALLOWED = {
    "protocols": ("protocols",),
    "model": ("model",),
    "client": ("client", "protocols", "model"),
    "coordinator": ("coordinator", "protocols", "model.config", "model.layout"),
    "consortium": OURS,
}
FLOWER = {
    "client/client_app.py", "client/flower_node.py", "client/message_turns.py", "consortium/simulation.py", "coordinator/exchange.py",
    "coordinator/flower_grid.py", "coordinator/flower_link.py", "coordinator/server_app.py", "protocols/flower.py", "protocols/wire.py",
}  # fmt: skip


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


@pytest.mark.parametrize("package", OURS)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in _modules(package):
        for name in _imports(path):
            ours = name.split(".")[0] in OURS
            assert not ours or any(_within(name, allowed) for allowed in ALLOWED[package]), f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", ["protocols", "coordinator"])
def test_torch_stays_out_of_protocols_and_coordinator(package: str) -> None:
    for path in _modules(package):
        assert not any(_within(name, "torch") for name in _imports(path)), path


def test_flower_is_imported_at_the_edges_alone() -> None:
    for package in OURS:
        for path in _modules(package):
            place = path.relative_to(ROOT).as_posix()
            assert place in FLOWER or not any(_within(name, "flwr") for name in _imports(path)), place


def test_the_command_line_starts_without_anything_heavy() -> None:
    heavy = "{'torch', 'transformers', 'peft', 'flwr', 'matplotlib', 'sqlalchemy', 'numpy', 'pydantic', 'scipy', 'dp_accounting'}"
    code = f"import sys, consortium.cli; sys.exit(repr({heavy} & sys.modules.keys()) if {heavy} & sys.modules.keys() else 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
