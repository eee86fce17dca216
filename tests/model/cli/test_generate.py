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


@pytest.mark.parametrize(
    "option",
    [
        ["--draft-tokens", "0"],
        ["--draft-tokens", "2"],
        ["--temperature", "-1"],
        ["--top-p", "2"],
        ["--seed", "99999999999999999999"],
    ],
)
def test_wrong_use_is_refused(option: list[str]) -> None:
    assert CliRunner().invoke(app, ["generate", "tiny", "--prompt", PROMPT, *option]).exit_code == 2


@pytest.mark.parametrize("name", ["cuda:99", "meta", "mps", "cuda:", "cpu:0", "cuda:99999999999"])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    result = CliRunner().invoke(app, ["generate", "tiny", "--prompt", PROMPT, "--device", name])
    assert isinstance(result.exception, DeviceError)
    assert name in str(result.exception)


@pytest.mark.parametrize("temperature", ["nan", "inf", "1e-40"])
def test_a_temperature_that_draws_nothing_is_refused(temperature: str) -> None:
    result = CliRunner().invoke(app, ["generate", "tiny", "--prompt", PROMPT, "--temperature", temperature])
    assert isinstance(result.exception, GenerationError)


def test_a_prompt_longer_than_the_context_is_refused() -> None:
    result = CliRunner().invoke(app, ["generate", "tiny", "--prompt", "7" * 2048])
    assert isinstance(result.exception, GenerationError)
    assert str(result.exception) == "The prompt has 2048 tokens and the model reads 2048: shorten it."


@pytest.mark.parametrize("options", [(), ("--speculative", "--draft-tokens", "3")])
def test_what_is_said_ends_with_the_context(options: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["generate", "tiny", "--prompt", "7" * 2046, "--max-new-tokens", "64", "--json", *options])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["tokens"] == 2


def test_the_stored_types_say_something_too() -> None:
    assert said("--dtype", "stored")["tokens"] == said("--dtype", "bfloat16")["tokens"]
