"""Backups hold no secret, and a restored ledger is another incarnation that charges what it may have forgotten."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.backup import write_backup
from client.begun import check_not_lost, mark_begun
from client.cli import app
from client.cli.backup import tell_restored
from client.errors import BackupError, LedgerError
from client.institution import Membership, write_membership
from client.ledger import Ledger
from client.only_node import only_node
from client.privacy_ledger import LOST
from client.restoring import Restored, restore
from client.settings import InstitutionSettings, write_settings
from client.verify import verify_ledger
from protocols.epoch import EpochState
from protocols.policy import Policy, write_policy
from protocols.privacy.accounting import epsilon
from protocols.service import SpentRun
from tests.federation.federation import Federation, make_plan
from tests.federation.private_plans import LOCAL, SMALL, private_plan
from tests.federation.scripted import Script

NAMES = ("ada", "bea", "cyd", "dov")


def later() -> datetime:
    return datetime(2031, 1, 1, tzinfo=UTC)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """A finished sum, and an epoch that is open."""
    script = Script(Federation(tmp_path, make_plan(trainable=SMALL)))
    script.follow(script.sum(script.set_up(NAMES), 0, "evaluate", 0), NAMES)
    yield script
    script.federation.close()


def home_of(script: Script) -> Path:
    return script.federation.nodes["ada"].ledger.home


def restored(file: Path, home: Path, spent: list[SpentRun] | None = None) -> Ledger:
    restore(file, home, spent, later)
    return Ledger.open(home, later)


def test_a_backup_of_a_ledger_at_work_holds_no_secret_of_an_epoch(script: Script, tmp_path: Path) -> None:
    stored = script.federation.nodes["ada"].ledger.epoch("r1", 1)
    assert stored is not None and stored.state
    secrets = [seed for seed in EpochState.from_bytes(stored.state).self_seeds if seed]
    write_backup(home_of(script), tmp_path / "backup", with_personal=True)
    content = (tmp_path / "backup").read_bytes()
    assert secrets and not any(secret in content for secret in secrets) and stored.state not in content
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "backup") as archive:
        names = archive.getnames()
    assert names[0] == "ledger.db" and all(name.startswith("states/r1/") for name in names[1:]) and len(names) == 2


def test_a_restored_ledger_holds_every_promise_and_can_be_verified(script: Script, tmp_path: Path) -> None:
    before = script.federation.nodes["ada"].ledger
    write_backup(home_of(script), tmp_path / "backup", with_personal=False)
    ledger = restored(tmp_path / "backup", tmp_path / "new")
    assert ledger.rows("claims") == before.rows("claims") and ledger.rows("heads") == before.rows("heads")
    assert ledger.finished_sums() == before.finished_sums() and ledger.position("r1") == before.position("r1")
    assert ledger.incarnation == int(later().timestamp()) > before.incarnation
    assert {row["stage"] for row in ledger.rows("epochs")} == {"abandoned"} and not ledger.rows("vectors")
    membership = Membership("ada", script.federation.roster, script.federation.operator_identity.public_key)
    assert verify_ledger(ledger, membership).failed == []
    ledger.close()
    assert not list(tmp_path.glob(".new*"))


def test_two_restores_of_one_backup_are_two_incarnations(script: Script, tmp_path: Path) -> None:
    write_backup(home_of(script), tmp_path / "backup", with_personal=False)
    one = restore(tmp_path / "backup", tmp_path / "one", None, later)
    other = restore(tmp_path / "backup", tmp_path / "other", None, lambda: later() + timedelta(seconds=1))
    early = restore(tmp_path / "backup", tmp_path / "early", None, lambda: datetime(1970, 1, 1, tzinfo=UTC))
    assert len({one.incarnation, other.incarnation, early.incarnation, 1}) == 4
    (tmp_path / "one" / "ledger.db").unlink()
    (tmp_path / "other" / "ledger.db").rename(tmp_path / "one" / "ledger.db")
    with pytest.raises(LedgerError, match="do not belong together"):
        Ledger.open(tmp_path / "one", later)


def test_a_ledger_that_begins_without_a_backup_follows_every_run_only(tmp_path: Path) -> None:
    restore(None, tmp_path / "new", [], later)
    ledger = Ledger.open(tmp_path / "new", later)
    assert ledger.incarnation == int(later().timestamp()) and ledger.returning.is_only_followed("any")
    ledger.close()


def test_a_lost_ledger_is_not_begun_anew(tmp_path: Path) -> None:
    check_not_lost(tmp_path, tmp_path / "node")
    mark_begun(tmp_path)
    with pytest.raises(LedgerError, match="`consortium client restore BACKUP`"):
        check_not_lost(tmp_path, tmp_path / "node")
    restore(None, tmp_path / "node", [], later)
    check_not_lost(tmp_path, tmp_path / "node")


def test_nothing_takes_the_place_of_a_ledger_or_of_a_backup(script: Script, tmp_path: Path) -> None:
    write_backup(home_of(script), tmp_path / "backup", with_personal=False)
    with pytest.raises(BackupError, match="exists"):
        write_backup(home_of(script), tmp_path / "backup", with_personal=False)
    with pytest.raises(BackupError, match="must not replace one that is whole"):
        restore(tmp_path / "backup", home_of(script), None, later)


def test_a_node_that_was_started_in_vain_is_not_in_the_way(script: Script, tmp_path: Path) -> None:
    write_backup(home_of(script), tmp_path / "backup", with_personal=False)
    home = tmp_path / "new"
    with only_node(home), pytest.raises(LedgerError, match="stop it first"):
        restore(tmp_path / "backup", home, None, later)
    restore(tmp_path / "backup", home, None, later)
    assert (home / "ledger.db").exists() and not (home / "answering").exists()


def test_a_backup_that_could_not_be_written_leaves_nothing(script: Script, tmp_path: Path) -> None:
    (state,) = (home_of(script) / "states").rglob("*.safetensors")
    state.unlink()
    with pytest.raises(BackupError, match="changes faster than it can be copied"):
        write_backup(home_of(script), tmp_path / "backup", with_personal=False)
    assert not list(tmp_path.glob("*backup*"))


@pytest.mark.parametrize("name", ["../ledger.db", "incarnation", "states/../../ledger.db", "vectors/r1/0-update.u32"])
def test_what_has_no_place_in_a_backup_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(b"")
    with tarfile.open(tmp_path / "backup", "w") as archive:
        archive.add(tmp_path / "content", name)
    with pytest.raises(BackupError, match="no place in a backup|holds no ledger"):
        restore(tmp_path / "backup", tmp_path / "new", None, later)
    assert not list(tmp_path.glob("*new*"))


@pytest.mark.parametrize("content", [b"", b"no archive", bytes(2000)])
def test_what_is_no_backup_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "backup").write_bytes(content)
    with pytest.raises(BackupError, match="no backup|holds no ledger"):
        restore(tmp_path / "backup", tmp_path / "new", None, later)


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Path]:
    """A backup of an institution that has accepted a private run and sent nothing yet."""
    federation = Federation(tmp_path / "private", private_plan(LOCAL))
    Script(federation)
    write_backup(federation.nodes["ada"].ledger.home, tmp_path / "backup", with_personal=False)
    yield tmp_path / "backup"
    federation.close()


def charged(ledger: Ledger) -> dict[int, str]:
    return {one.round: one.state for one in ledger.privacy.charges()}


def test_offline_every_private_run_is_charged_whole(private: Path, tmp_path: Path) -> None:
    ledger = restored(private, tmp_path / "new")
    accepted = ledger.privacy.accepted("r1")
    assert accepted is not None
    assert epsilon([s for one in ledger.privacy.charges() for s in one.spends], 1e-5) >= epsilon(accepted.whole, 1e-5)
    assert charged(ledger) == dict.fromkeys(accepted.spends, "reserved")
    ledger.close()


def test_what_the_registry_says_is_charged_and_one_round_more(private: Path, tmp_path: Path) -> None:
    plan = private_plan(LOCAL, rounds=3)
    other = SpentRun("other", plan.canonical(), 2, "2.5", "1e-05")
    ledger = restored(private, tmp_path / "new", [SpentRun("r1", plan.canonical(), 1, "1.0", "1e-05"), other])
    states = {one.round: one.state for one in ledger.privacy.charges() if one.run == "r1"}
    assert states[1] == "spent" and states[2] == "reserved"
    (unknown,) = [one for one in ledger.privacy.charges() if one.run == "other"]
    assert unknown.round == LOST and epsilon(unknown.spends, 1e-5) == pytest.approx(2.5, rel=0.01)
    ledger.close()


def test_on_the_command_line(script: Script, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    settings = {"records": {"source": "records.jsonl", "split": "split"}, "storage": {"home": str(home_of(script))}}
    write_settings(folder / "institution.toml", InstitutionSettings.model_validate(settings))
    write_policy(folder / "policy.toml", Policy())
    write_membership(folder, Membership("ada", script.federation.roster, script.federation.operator_identity.public_key))

    def call(*arguments: str) -> tuple[int, dict[str, object]]:
        done = CliRunner().invoke(app, [*arguments, "--json", "--institution", str(folder)])
        return done.exit_code, json.loads(done.stdout)

    assert call("backup", str(tmp_path / "backup")) == (0, {"schema": 1, "ok": True, "file": str(tmp_path / "backup")})
    assert call("rejoin", "r1")[0] == 2  # never restored
    home_of(script).rename(tmp_path / "damaged")
    assert call("restore")[0] == call("restore", str(tmp_path / "backup"), "--without-backup")[0] == 2
    code, said = call("restore", str(tmp_path / "backup"))
    assert code == 1 and "--offline" in str(said["error"]) and not home_of(script).exists()
    code, said = call("restore", str(tmp_path / "backup"), "--offline")
    assert (code, said["runs"], said["asked_operator"]) == (0, ["r1"], False)
    assert "is older than the restore" in str(call("rejoin", "r1", "--yes")[1]["error"])
    assert "nobody can be asked" in str(call("rejoin", "r2")[1]["error"])
    assert call("rejoin", "r2", "--yes") == (0, {"schema": 1, "ok": True, "run": "r2"})
    assert call("rejoin", "r2", "--yes")[0] == 2
    ledger = Ledger.look(home_of(script), later)
    assert [ledger.returning.is_only_followed(run) for run in ("r1", "r2", "r3")] == [True, False, True]
    ledger.close()


def test_a_restore_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell_restored(Restored(5, ("r1",), ("other",), True), tmp_path)
    text = capsys.readouterr().out
    assert "incarnation 5" in text and "r1: the node follows" in text and "does not know them: other" in text
