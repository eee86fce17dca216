"""`client check` and `client rehearse` as they are typed: exit codes, JSON, and records on a terminal alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.cli.terminal import show_records
from client.dataset import build_dataset
from client.records import Record
from model.bases import bundled_base
from model.text.tokenizer import load_tokenizer
from tests.client.small_institution import THINGS, small_plan, write_institution


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.json").write_bytes(small_plan().canonical())
    return write_institution(tmp_path / "ada")


def run(folder: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*words, "--institution", str(folder)])
    return result.exit_code, result.output


def test_check_says_what_fails_and_shows_no_record(folder: Path) -> None:
    code, text = run(folder, "check", "--plan", str(folder.parent / "plan.json"))
    assert code == 1 and "failed   files" in text and "ok       records: 32 training and 8 test records" in text
    code, document = run(folder, "check", "--plan", str(folder.parent / "plan.json"), "--json")
    found = json.loads(document)
    assert code == 1 and not found["ok"] and {"name", "outcome", "sentence", "remedy"} == set(found["checks"][0])
    assert not any(thing in text + document for thing in THINGS)


def test_check_without_a_plan_reads_the_records(folder: Path) -> None:
    code, document = run(folder, "check", "--json")
    found = {check["name"]: check["outcome"] for check in json.loads(document)["checks"]}
    assert code == 1 and found["records"] == "ok" and found["plan"] == "skipped"


def test_rehearse_writes_the_bytes_and_shows_no_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["client.cli.rehearse"], "TOLD_EVERY_SECONDS", 0.0)
    out, picture = folder.parent / "sent.bin", folder.parent / "seen.png"
    more = ("--as-seen-by", "coordinator", "--out", str(out), "--out-picture", str(picture), "--json")
    called = CliRunner().invoke(app, ["rehearse", str(folder.parent / "plan.json"), *more, "--institution", str(folder)])
    code, document, found = called.exit_code, called.output, json.loads(called.stdout)
    assert "playing round 0, " in called.stderr and "playing round 1, update sum: step 1 is trained" in called.stderr
    assert code == 0 and found["sent_bytes"] == out.stat().st_size and out.stat().st_mode & 0o777 == 0o600
    assert sum(found["seen_by_coordinator"]) > 0 and picture.read_bytes().startswith(b"\x89PNG")
    assert not any(thing in document for thing in THINGS)


def test_rehearse_refuses_what_it_cannot_complete(folder: Path) -> None:
    (folder.parent / "open.json").write_bytes(small_plan(evaluation={}).canonical())
    code, text = run(folder, "rehearse", str(folder.parent / "open.json"))
    assert code == 1 and "lacks evaluation.choices" in text
    assert run(folder, "rehearse", str(folder.parent / "plan.json"), "--as-seen-by", "me")[0] == 2


def test_records_are_shown_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(bundled_base("tiny"))
    examples = build_dataset([Record({"text": "grass", "label": "green"}, "line 1")], small_plan().records, tokenizer).examples
    show_records(examples, tokenizer)
    assert "grass" not in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_records(examples, tokenizer)
    assert "what colour is grass? answer:" in capsys.readouterr().out
