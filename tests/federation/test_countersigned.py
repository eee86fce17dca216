"""`verify_registry` against what institutions signed: a registry that was replaced, cut or forked is found by their transcripts."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.institution import Membership, write_membership
from coordinator.cli import app
from coordinator.events import SumFinished
from coordinator.registry import Registry
from coordinator.registry.records import NewRun, Run
from coordinator.registry.states import RunState
from coordinator.verify import UNKNOWN_KEYS, verify_registry
from protocols.audit import Audit
from protocols.identity import Identity
from protocols.parties import Parties, read_parties
from protocols.roster import Roster, RosterEntry
from protocols.transcript import Transcript
from tests.federation.federation import NAMES, Crash, Federation, make_plan


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run; only copied."""
    folder = tmp_path_factory.mktemp("finished")
    federation = Federation(folder, make_plan(rounds=1))
    federation.run()
    write_membership(folder, Membership("ada", federation.roster, federation.operator_identity.public_key))
    federation.close()
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy")


def audited(place: Path, parties: Parties | None = None) -> Audit:
    registry = Registry.open(str(place / "registry.db"), lambda: datetime.now(UTC), read_only=True)
    audit = verify_registry(registry, place / "models", None, place / "runs", parties)
    registry.close()
    return audit


def rebuilt(place: Path, change: str = "") -> None:
    """Replaces the registry by another one that is consistent in itself; `change` says what it tells differently."""
    path, seconds = place / "registry.db", count()
    old = Registry.open(str(path), lambda: datetime.now(UTC))
    (run,) = old.runs()
    parties, rounds = old.participants(), old.rounds(run.run)
    old.close()
    for file in place.glob("registry.db*"):
        file.unlink()
    new = Registry.open(str(path), lambda: datetime(2031, 1, 1, tzinfo=UTC) + timedelta(seconds=next(seconds)))
    fields = {name: getattr(run, name) for name in ("plan_name", "plan_sha256", "plan", "base_sha256", "seed", "rounds")}
    _submit(new, run, fields)
    new.record_participants(parties)
    for state in (RunState.ACCEPTING, RunState.RUNNING):
        new.set_state(run.run, state)
    for row in rounds[: 0 if change == "cut" else None]:
        new.record_round(run.run, replace(row, metric=0.99) if change == "metric" else row)
    new.close()


def _submit(registry: Registry, run: Run, fields: dict[str, object]) -> None:
    token = bytes.fromhex(run.run.rsplit("-", 1)[1])
    registry.create_run(NewRun(**fields, terms_sha256=run.terms_sha256, metric=run.metric), token)  # type: ignore[arg-type]


def transcripts(place: Path) -> list[Path]:
    return sorted(place.glob("runs/*/sums/*/transcript"))


def test_countersigned_events_are_proved_and_the_rest_is_named(place: Path) -> None:
    audit = audited(place)
    assert audit.ok, audit.failed
    last = Transcript.from_bytes(transcripts(place)[-1].read_bytes()).manifest
    assert f"The first {last.chain_length} events are those that 4 institutions countersigned in round 1 of run" in audit.proved[-1]
    assert "5 transcripts of run" in audit.proved[-2] and "by the keys of this registry" in audit.proved[-2]
    assert audit.unproved[-1].startswith(f"Events {last.chain_length + 1} to ") and UNKNOWN_KEYS in audit.unproved


def test_an_institutions_roster_says_whose_keys_they_are(place: Path) -> None:
    audit = audited(place, read_parties(place / "roster.toml"))
    assert audit.ok and "by the keys of the roster that was given" in audit.proved[-2] and UNKNOWN_KEYS not in audit.unproved


@pytest.mark.parametrize("change", ["", "metric", "cut"])
def test_registry_that_was_replaced_by_a_consistent_one_is_found(place: Path, change: str) -> None:
    rebuilt(place, change)
    audit = audited(place)
    (failure,) = audit.failed
    expected = "has a transcript and no row" if change == "cut" else "institutions countersigned"
    assert expected in failure and "the registry was replaced or cut" in failure
    assert "The event chain is whole" in audit.proved[0], "by itself it is consistent"


def test_replaced_registry_without_transcripts_is_not_found_and_nothing_is_claimed(place: Path) -> None:
    rebuilt(place, "metric")
    shutil.rmtree(place / "runs")
    audit = audited(place)
    assert audit.ok and not any("countersigned" in sentence for sentence in audit.proved)
    assert any("no transcript is kept" in sentence for sentence in audit.unproved)
    assert audit.unproved[-1].startswith("Events 1 to ")


def test_event_chain_that_was_cut_is_found(place: Path) -> None:
    connection = sqlite3.connect(place / "registry.db")
    connection.execute("DROP TRIGGER events_no_delete")
    connection.execute("DELETE FROM events WHERE sequence > 6")
    connection.commit()
    connection.close()
    assert any("and this registry has 6; the registry was replaced or cut" in failure for failure in audited(place).failed)


def test_registry_with_invented_institutions_is_found_by_a_roster(place: Path) -> None:
    others = Roster(tuple(RosterEntry(name, Identity(name, name.encode().ljust(32)).public_key) for name in sorted(NAMES)))
    parties = read_parties(place / "roster.toml")
    assert (
        "another key of ada, bea, cyd, dov than the roster that was given"
        in audited(place, Parties(others, parties.coordinator_key)).failed[0]
    )
    another = Parties(parties.roster, others.entries[0].public_key)
    assert "signature is not that of the coordinator" in audited(place, another).failed[0]


def test_transcripts_without_the_runs_roster_need_one(place: Path) -> None:
    next(place.glob("runs/*/roster.toml")).unlink()
    assert "give an institution's roster.toml" in audited(place).failed[0]
    assert audited(place, read_parties(place / "roster.toml")).ok


def test_transcript_in_anothers_place_is_found(place: Path) -> None:
    first, second, *_ = transcripts(place)
    first.write_bytes(second.read_bytes())
    (failure,) = audited(place).failed
    assert failure.startswith(f"{first}: not the transcript of its folder's sum")
    second.write_bytes(b"nothing")
    audit = audited(place)
    assert "no transcript of a sum" in audit.failed[1] and not any("Transcripts of run" in sentence for sentence in audit.unproved)
    assert any(sentence.startswith("3 transcripts of run") for sentence in audit.proved), "the others are looked at all the same"


def test_transcript_that_too_few_signed_is_found(place: Path) -> None:
    path = transcripts(place)[-1]
    honest = Transcript.from_bytes(path.read_bytes())
    few = replace(honest.certificate, signatures=dict(list(honest.certificate.signatures.items())[:2]))
    path.write_bytes(replace(honest, certificate=few).to_bytes())
    (failure,) = audited(place).failed
    assert "another one than the registry names" in failure


def test_missing_transcripts_are_listed(place: Path) -> None:
    transcripts(place)[0].unlink()
    audit = audited(place)
    assert audit.ok and any("Transcripts of run" in sentence and "0-evaluate" in sentence for sentence in audit.unproved)


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A run that died before the row of round 1 was written."""
    federation = Federation(tmp_path, make_plan(rounds=1))
    with pytest.raises(Crash):
        federation.run(_die)
    federation.close()
    return tmp_path


def _die(event: object) -> None:
    if isinstance(event, SumFinished) and (event.round, event.kind) == (1, "evaluate"):
        raise Crash


def test_sum_of_the_round_under_way_counts_too(interrupted: Path) -> None:
    audit = audited(interrupted)
    assert audit.ok, audit.failed
    assert "5 transcripts of run" in audit.proved[-2] and "in round 1 of run" in audit.proved[-1]


def test_the_command_finds_transcripts_and_takes_a_roster(place: Path) -> None:
    call = ["verify", "--registry", str(place / "registry.db"), "--roster", str(place / "roster.toml")]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0 and "institutions countersigned in round 1" in done.stdout, done.output
    assert done.stdout.splitlines()[-1] == "Nothing wrong found; 5 things are not proved."
    (place / "roster.toml").write_text("institutions = 3")
    refused = CliRunner().invoke(app, call)
    assert refused.exit_code == 2 and "is not a roster" in refused.stderr and not refused.stdout
    rebuilt(place)
    assert CliRunner().invoke(app, call[:3]).exit_code == 1
