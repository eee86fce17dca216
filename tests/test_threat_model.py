"""The threat model names tests: every one of them exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_that_the_threat_model_names_exists() -> None:
    page = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", page))
    files = list((ROOT / "tests").rglob("test_*.py"))
    texts = "\n".join(path.read_text(encoding="utf-8") for path in files)
    written = {path.name for path in files} | set(re.findall(r"^def (test_\w+)\(", texts, re.MULTILINE))
    assert len(named) > 30
    assert not sorted(named - written)
