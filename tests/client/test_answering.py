"""What an answer may say of the institution, and which runs it may name."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client.answering import answer
from client.errors import LedgerError, RecordError, SettingsError
from client.work import Work
from model.errors import ModelError
from protocols.errors import EncodingError, PolicyError, Refusal, StateError, UpdateError
from protocols.identity import Envelope, open_envelope, seal_envelope
from protocols.pack import pack, unpack
from protocols.wire import Parcel
from tests.federation.federation import Federation, make_plan

NAMES = ("ada", "bea", "cyd")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path / "home", make_plan(), NAMES)
    yield made
    made.close()


def refused(federation: Federation, run: str = "triage-01") -> str:
    """What ada answers to a greeting; empty if it accepts."""
    parts = pack({"plan": federation.plan.canonical()})
    request = Envelope("operator", "ada", run, 0, 0, "run/query.hello", b"", 0, parts)
    reply = answer(federation.nodes["ada"], "query.hello", Parcel(seal_envelope(federation.operator_identity, request)))
    return unpack(open_envelope(reply.envelope, federation.roster).payload).get("refused", b"").decode()


@pytest.mark.parametrize("run", ["a", "triage-0a1b2c3d", "A.b_c-9", "n" * 64 + "-0a1b2c3d"])
def test_run_with_an_ordinary_id_is_accepted(federation: Federation, run: str) -> None:
    assert refused(federation, run) == ""


@pytest.mark.parametrize("run", ["", ".", "..", "../../escaped", "/escaped", "a/b", "a\\b", ".hidden", "a%", "a\n", "ü", "n" * 81])
def test_run_whose_id_could_name_another_place_is_refused(federation: Federation, run: str) -> None:
    assert "a run's id has 1 to 80 letters" in refused(federation, run)
    assert federation.nodes["ada"].ledger.plan(run) is None


@pytest.mark.parametrize(
    "error", [RecordError, SettingsError, LedgerError, StateError, UpdateError, ModelError, EncodingError, ValueError, RecursionError]
)
def test_text_that_may_tell_of_records_stays_in_the_log(
    federation: Federation, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> Work:
        raise error("/records/ward.jsonl, line 4: a record of 77 tokens")

    federation.nodes["ada"] = replace(federation.nodes["ada"], open_work=broken)
    with caplog.at_level(logging.ERROR, "consortium.client"):
        text = refused(federation)
    assert text == f"ada could not answer query.hello ({error.__name__}); its own log says why"
    assert "line 4: a record of 77 tokens" in caplog.text


@pytest.mark.parametrize("error", [Refusal, PolicyError])
def test_reason_that_is_about_the_request_is_told(federation: Federation, error: type[Exception]) -> None:
    def broken(_: object) -> Work:
        raise error("this plan is not trained here")

    federation.nodes["ada"] = replace(federation.nodes["ada"], open_work=broken)
    assert refused(federation) == "this plan is not trained here"
