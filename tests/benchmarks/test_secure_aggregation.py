"""Every section of the secure sum's benchmark runs to its last line, on vectors too short to say anything about speed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def printed(program: str, *arguments: str) -> str:
    line = [sys.executable, "-m", f"benchmarks.{program}", *arguments]
    return subprocess.run(line, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_ours_and_flowers_sum_are_compared_with_and_without_a_dropout() -> None:
    output = printed("secure_aggregation", "compare", "--institutions", "4", "--elements", "20000", "--repeats", "1")
    assert output.count("4 institutions x 20,000 elements") == 2
    assert "0 dropped" in output and "1 dropped" in output
    errors = {name: float(error) for name, error in re.findall(r"(ours, 32 bits|Flower SecAgg\+) .* error (\S+)", output)}
    assert 0 < errors["ours, 32 bits"] < 1e-6 and 0 < errors["Flower SecAgg+"] < 1e-5


@pytest.mark.parametrize(
    ("section", "institutions", "last"),
    [("scale", ("4",), "of which all but the masks"), ("memory", ("3", "4"), "ratio of the peaks"), ("long", ("3",), "GB at most")],
)
def test_our_sum_is_measured(section: str, institutions: tuple[str, ...], last: str) -> None:
    output = printed("secure_aggregation", section, "--institutions", *institutions, "--elements", "20000")
    assert last in output.splitlines()[-1]


@pytest.mark.slow
def test_mask_expansion_is_set_beside_its_limit() -> None:
    output = printed("mask_expansion", "--millions", "1", "--repeats", "1")
    assert "OpenSSL" in output and "of the limit" in output and "two threads" in output
