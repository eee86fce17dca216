"""`consortium model generate` on the bundled base."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from model.cli import app
from model.errors import DeviceError, GenerationError

PROMPT = "It was a dark night, and the"


def said(*options: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["generate", "tiny", "--prompt", PROMPT, "--max-new-tokens", "12", "--json", *options])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_drafting_says_the_same_and_reports_acceptance() -> None:
    plain, drafted = said(), said("--speculative", "--draft-tokens", "2")
    assert plain["acceptance"] is None
    assert 0 <= drafted["acceptance"] <= 1
    assert {**drafted, "acceptance": None} == plain


def test_the_seed_decides_what_is_drawn() -> None:
    drawing = ("--temperature", "1", "--top-p", "0.95")
    first = said(*drawing, "--seed", "1")
    assert first == said(*drawing, "--seed", "1") != said(*drawing, "--seed", "2")


def test_acceptance_goes_to_standard_error_beside_plain_text() -> None:
    result = CliRunner().invoke(app, ["generate", "tiny", "--prompt", PROMPT, "--speculative"])
    assert "drafted tokens accepted" in result.stderr
    assert "drafted" not in result.stdout


def test_an_impossible_nucleus_is_refused() -> None:
    result = CliRunner().invoke(app, ["generate", "tiny", "--prompt", PROMPT, "--temperature", "1", "--top-p", "0"])
    assert isinstance(result.exception, GenerationError)
    assert "top_p" in str(result.exception)


@pytest.mark.parametrize("option", [["--draft-tokens", "0"], ["--temperature", "-1"]])
def test_wrong_use_is_refused(option: list[str]) -> None:
    assert CliRunner().invoke(app, ["generate", "tiny", "--prompt", PROMPT, *option]).exit_code == 2


def test_a_device_that_is_not_here_is_refused() -> None:
    result = CliRunner().invoke(app, ["generate", "tiny", "--prompt", PROMPT, "--device", "cuda:99"])
    assert isinstance(result.exception, DeviceError)
    assert "cuda:99" in str(result.exception)


def test_the_stored_types_say_something_too() -> None:
    assert said("--dtype", "stored")["tokens"] == said("--dtype", "bfloat16")["tokens"]
