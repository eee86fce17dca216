"""A log line says when, what and about whom, and nothing that an error of somebody else's quotes."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from protocols.errors import Refusal
from protocols.logs import about, write_logs

RECORD = "Ms Canary of ward 7"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What a process with logs of its own writes; the test's logging is as before afterwards."""
    root, flower, own = logging.getLogger(), logging.getLogger("flwr"), logging.getLogger("consortium")
    before = root.handlers, root.level, flower.handlers, flower.propagate, own.level
    yield io.StringIO()
    root.handlers, flower.handlers, flower.propagate = before[0], before[2], before[3]
    root.setLevel(before[1])
    own.setLevel(before[4])


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_carries_what_it_is_about(stream: io.StringIO) -> None:
    log = write_logs("node", stream, institution="amber")
    with about(run="triage-01", round=3):
        log.warning("%s is late", "birch", extra={"event": "late", "institution": "birch"})
    log.info("idle")
    late, idle = lines(stream)
    assert late.pop("time").endswith("+00:00")
    assert late == {
        "level": "warning", "component": "node", "run": "triage-01", "round": 3, "institution": "birch", "event": "late",
        "sentence": "birch is late",
    }  # fmt: skip
    assert (idle["institution"], idle["sentence"]) == ("amber", "idle") and "run" not in idle


def fail() -> None:
    raise ValueError(f"cannot encode {RECORD!r}")


def test_the_text_of_others_errors_is_not_written(stream: io.StringIO) -> None:
    log = write_logs("node", stream)
    try:
        fail()
    except ValueError as error:
        log.error("request failed: %s", error, exc_info=error)
        log.exception("again")
    log.error("declined: %s", Refusal("the round is over"))
    told, again, ours = (line["sentence"] for line in lines(stream))
    assert RECORD not in stream.getvalue()
    assert told.startswith("request failed: ValueError at ") and again.startswith("again [ValueError at ")
    assert "test_logs.py" in told and ours == "declined: the round is over"


def test_of_other_packages_the_place_alone_is_written(stream: io.StringIO) -> None:
    write_logs("node", stream)
    for name in ("flwr", "somebodys.tokenizer", "consortiums"):
        logging.getLogger(name).error("got %s", RECORD)
        logging.getLogger(name).error(f"got {RECORD}")
    assert RECORD not in stream.getvalue() and len(lines(stream)) == 6
    assert "test_logs.py" in lines(stream)[0]["sentence"]


def test_a_person_at_a_terminal_reads_sentences(stream: io.StringIO) -> None:
    stream.isatty = lambda: True  # type: ignore[method-assign]
    write_logs("client", stream).info("the SuperNode starts again")
    assert stream.getvalue()[8:] == " the SuperNode starts again\n"
