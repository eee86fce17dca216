"""Every command that the README shows runs, in an empty folder, in the order in which a reader would type them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [content for kind, content in fenced if kind == language]


def commands() -> list[str]:
    return [line for block in blocks("") for line in block.splitlines() if line.startswith(("consortium ", "make "))]


def write_records(path: Path) -> None:
    codes = ("A1", "B2", "C3")
    lines = [{"note": f"case {number} shows sign {codes[number % 3].lower()}", "code": codes[number % 3]} for number in range(120)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    (plan,) = blocks("toml")
    (tmp_path / "triage.toml").write_text(plan, encoding="utf-8")
    write_records(tmp_path / "records.jsonl")
    shown = commands()
    assert any(command.startswith("consortium simulate") for command in shown)
    for command in shown:
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            continue
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from consortium.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *command.split()[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_python_names_of_the_readme_exist() -> None:
    import consortium

    assert all(hasattr(consortium, name) for name in ("load_checkpoint", "run_secagg", "simulate"))
