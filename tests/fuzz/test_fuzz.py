"""No input that coverage-guided fuzzing comes to is more than a declared refusal."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from tests.fuzz import decoders, fuzz
from tests.fuzz.make_corpus import CORPUS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: it has wheels for Linux on x86-64 alone"
)
SECONDS = 60


def test_the_corpus_is_of_the_present_formats() -> None:
    for decoder in decoders.decoders().values():
        samples = sorted((CORPUS / decoder.name).iterdir())
        assert samples and all(decoder.check(path.read_bytes()) for path in samples), "run python -m tests.fuzz.make_corpus"


def test_two_seconds_of_fuzzing_find_nothing(tmp_path: Path) -> None:
    report = fuzz.fuzz("sum", tmp_path, seconds=2)
    assert not report.finding, report.finding
    assert report.executions > 100 and report.coverage > 10


@pytest.mark.slow
@pytest.mark.parametrize("entry", decoders.entries())
def test_a_minute_of_fuzzing_finds_nothing(entry: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    report = _begun(tmp_path_factory.getbasetemp())[entry].result()
    print(report)
    assert not report.finding, report.finding
    assert report.executions > 1000


@cache
def _begun(folder: Path) -> dict[str, Future[fuzz.Report]]:
    """All entries, two at a time; whoever asks for one waits for that one."""
    pool = ThreadPoolExecutor(2)
    run: Callable[[str], fuzz.Report] = lambda entry: fuzz.fuzz(entry, folder / entry, SECONDS)  # noqa: E731
    return {entry: pool.submit(run, entry) for entry in decoders.entries()}
