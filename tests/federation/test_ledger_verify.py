"""An institution verifies its own ledger: what a run left there is proved, what was changed is named, what contradicts is evidence."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.cli import app
from client.errors import LedgerError
from client.evidence import read_evidence
from client.institution import Membership, read_membership, write_membership
from client.ledger import Ledger
from client.settings import InstitutionSettings, RecordSettings, StorageSettings, write_settings
from client.verify import verify_ledger
from coordinator.events import RoundFinished
from protocols.audit import Audit
from tests.federation.federation import NAMES, Federation, _now, make_plan
from tests.federation.scripted import Script


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of institutions after a run in which dov missed a round; only copied."""
    folder = tmp_path_factory.mktemp("finished")
    federation = Federation(folder, make_plan(rounds=3))
    federation.fails = lambda name, _: name == "dov" and len(federation.of(RoundFinished)) == 1
    federation.run()
    for name in NAMES:
        home = folder / "institutions" / name
        membership = Membership(name, federation.roster, federation.operator_identity.public_key)
        write_membership(home, membership)
        settings = InstitutionSettings(records=RecordSettings(source="x.jsonl", split="split"), storage=StorageSettings(home="."))
        write_settings(home / "institution.toml", settings)
    federation.close()
    return folder / "institutions"


@pytest.fixture
def institutions(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy")


def audited(home: Path) -> Audit:
    ledger = Ledger.look(home, _now)
    audit = verify_ledger(ledger, read_membership(home))
    ledger.close()
    return audit


def changed(home: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(home / "ledger.db")
    assert connection.execute(statement, values).rowcount > 0
    connection.commit()
    connection.close()


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["ledger", *arguments])


def test_ledger_of_a_run_is_proved(institutions: Path) -> None:
    audit = audited(institutions / "ada")
    assert audit.ok, audit.failed
    told = "\n".join(audit.proved)
    for text in ("incarnation 1", "11 transcripts of run", "The state of run", "are erased", "4 were countersigned"):
        assert text in told, told
    assert not any("adopted" in sentence for sentence in audit.unproved)


def test_institution_that_was_absent_names_what_it_did_not_follow(institutions: Path) -> None:
    audit = audited(institutions / "dov")
    assert audit.ok, audit.failed
    assert any("What came right before 1-evaluate in run" in sentence for sentence in audit.unproved), audit.unproved


def test_looking_changes_nothing(institutions: Path) -> None:
    home = institutions / "ada"
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    audited(home)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


ALTERED_ROOT = "UPDATE claims SET value = zeroblob(32) WHERE claim LIKE 'root/%'"
CHANGES = {
    "heads": ("UPDATE heads SET head = zeroblob(32) WHERE length = (SELECT max(length) FROM heads)", "contradict each other"),
    "digests": ("UPDATE heads SET digests = zeroblob(length(digests)) WHERE length(digests) > 0", "contradict each other"),
    "countersigned": ("UPDATE heads SET countersigned = 0", "signed a head of the event chain that its ledger does not have"),
    "own input": (ALTERED_ROOT, "as the input of ada that it did not send"),
    "own set": ("UPDATE claims SET value = x'616461' WHERE claim LIKE 'set/%/0/evaluate'", "another one than ada signed"),
    "sum": ("UPDATE sums SET transcript = (SELECT transcript FROM sums WHERE round = 2 AND sum = 'update') WHERE round = 1", "another one"),
    "state": ("UPDATE positions SET state_hash = zeroblob(32)", "does not stand where its last finished sum led to"),
    "secrets": ("UPDATE epochs SET state = x'00'", "secrets of epoch"),
    "transcripts": ("DELETE FROM transcripts", "the transcripts of 0-evaluate, 0-experts"),
    "one transcript": ("DELETE FROM transcripts WHERE rowid = 3", "are missing from the ledger"),
    "institutions": ("UPDATE sums SET institutions = 7", "another number of institutions"),
    "sums": ("DELETE FROM sums", "was over and is missing from the table sums"),
    "one sum": ("DELETE FROM sums WHERE round = 1 AND sum = 'update'", "the update sum of round 1 was over and is missing"),
    "position": ("UPDATE positions SET finished = finished - 1", "does not stand where its last finished sum led to"),
    "plan": ("UPDATE runs SET plan = x'7b7d'", "plan"),
    "no plan": ("DELETE FROM runs", "no plan in the ledger"),
    "reply": ("UPDATE replies SET reply = (SELECT reply FROM replies WHERE rowid = 2) WHERE rowid = 1", "is not one to its request"),
    "request": ("UPDATE replies SET request = zeroblob(99) WHERE rowid = 1", "table replies, row triage"),
    "key": ("UPDATE replies SET key = 'r/' || key WHERE rowid = 1", "another one than its key says"),
    "slot": ("UPDATE claims SET value = zeroblob(32) WHERE claim LIKE 'slot/%' AND rowid < 9", "its request asked for something else"),
    "claim": ("UPDATE claims SET claim = claim || '0' WHERE claim LIKE 'transcript/%/2/update'", "its request asked for something else"),
    "survivors": ("UPDATE survivors SET members = members || char(10) || 'eve'", "not a member of the epoch"),
    "fewer survivors": ("UPDATE survivors SET members = 'ada'", "not the smallest set"),
    "no survivors": ("DELETE FROM survivors", "table survivors has no row of epoch"),
    "epoch": ("UPDATE epochs SET epoch = epoch + 5", "its terms are those of another epoch"),
    "shown head": ("UPDATE heads SET request = (SELECT request FROM replies LIMIT 1)", "table heads, row"),
    "evidence": ("INSERT INTO evidence (key, request, earlier, at) VALUES ('a/0/run/0/x', x'00', x'', '')", "table evidence, row 1: "),
    "proof": ("INSERT INTO proofs (run, proof, at) VALUES ('a', x'00', '')", "table proofs, row 1: "),
    "challenge": ("INSERT INTO challenges VALUES (x'00', x'00', x'00')", "table challenges, row 00: "),
    "vector": ("INSERT INTO vectors VALUES ('a', 9, 'update', x'00', x'00')", "the stored vector is damaged"),
    "transcript": ("UPDATE transcripts SET transcript = x'ff'", "table transcripts, row"),
    "set": ("UPDATE claims SET value = x'ff' WHERE claim LIKE 'set/%'", "table claims, row set/"),
    "text": ("UPDATE survivors SET members = CAST(x'ff' AS TEXT)", "table survivors, row"),
    "time": ("UPDATE sums SET at = 'yesterday' WHERE round = 1", "table sums, row triage"),
    "run": ("UPDATE sums SET run = CAST(x'ff' AS TEXT)", "no plan in the ledger"),
}


@pytest.mark.parametrize(("statement", "complaint"), CHANGES.values(), ids=CHANGES)
def test_change_is_named(institutions: Path, statement: str, complaint: str) -> None:
    home = institutions / "ada"
    changed(home, statement)
    failed = audited(home).failed
    assert any(complaint in sentence for sentence in failed), failed


def test_run_that_was_put_back_to_its_beginning_is_named_by_its_promises(institutions: Path) -> None:
    home = institutions / "ada"
    for table in ("transcripts", "sums", "positions"):
        changed(home, f"DELETE FROM {table}")
    audit = audited(home)
    assert any("was over and is missing from the table sums" in sentence for sentence in audit.failed), audit.failed
    assert not any(" 0 " in sentence or "transcripts of run" in sentence for sentence in audit.proved), audit.proved


def test_older_copy_without_its_count_of_promises_is_refused(institutions: Path) -> None:
    home = institutions / "ada"
    changed(home, "DELETE FROM claims WHERE rowid > 5")
    (home / "promises").unlink()
    for look in (Ledger.look, Ledger.open):
        with pytest.raises(LedgerError, match="promises is missing and the ledger holds 5 promises"):
            look(home, _now)


def test_another_roster_is_named(institutions: Path) -> None:
    roster = institutions / "ada" / "roster.toml"
    key = next(line.split('"')[1] for line in roster.read_text().splitlines() if line.startswith("public_key"))
    roster.write_text(roster.read_text().replace(key, key[::-1]))
    assert "another roster" in audited(institutions / "ada").failed[0]


def test_missing_state_and_foreign_database_are_named(institutions: Path) -> None:
    for path in (institutions / "ada" / "states").rglob("*.safetensors"):
        path.unlink()
    assert "missing, or not the state" in audited(institutions / "ada").failed[0]
    shutil.copy(institutions / "bea" / "ledger.db", institutions / "ada" / "ledger.db")
    with pytest.raises(LedgerError, match="do not belong together"):
        audited(institutions / "ada")
    with pytest.raises(LedgerError, match="there is no ledger"):
        audited(institutions)


FIRST_VERSION = """
DROP TABLE transcripts; DROP TABLE heads; CREATE TABLE chain (length INTEGER PRIMARY KEY, head BLOB NOT NULL) STRICT;
ALTER TABLE replies ADD COLUMN arrays BLOB NOT NULL DEFAULT x''; ALTER TABLE claims DROP COLUMN request;
ALTER TABLE evidence DROP COLUMN earlier; PRAGMA user_version = 0;
"""


def test_ledger_of_before_transcripts_were_kept_opens_and_says_so(institutions: Path) -> None:
    home = institutions / "ada"
    connection = sqlite3.connect(home / "ledger.db")
    connection.executescript(FIRST_VERSION)
    connection.close()
    promises = (home / "promises").read_text()
    (home / "promises").unlink()
    with pytest.raises(LedgerError, match="no ledger of this version"):
        audited(home)
    Ledger.open(home, _now).close()
    assert (home / "promises").read_text() == promises
    audit = audited(home)
    assert audit.ok, audit.failed
    for text in ("does not keep: 0-evaluate", "Anything of an event chain: none was shown"):
        assert any(text in sentence for sentence in audit.unproved), audit.unproved
    assert not any("transcripts of run" in sentence or "heads" in sentence for sentence in audit.proved), audit.proved


def test_contradicting_requests_are_listed_with_what_they_prove(script: Script) -> None:
    epoch, node = script.set_up(NAMES), script.federation.nodes["ada"]
    membership = Membership("ada", node.roster, node.coordinator_key)
    script.chain = (5, b"\5" * 32)
    manifest = script.manifest(epoch, 0, "evaluate", 0)
    assert script.send("ada", epoch, manifest).refusal == ""
    script.digests = bytes(32)
    assert "another request" in script.send("ada", epoch, manifest).refusal
    script.chain = (4, b"\4" * 32)
    assert "event chain" in script.send("ada", epoch, script.manifest(epoch, 0, "evaluate", 1)).refusal
    two, shorter = read_evidence(node.ledger, membership)
    assert "proved, run r1: the coordinator signed two different requests" in two
    assert "no proof to others" in shorter
    by_another = Membership("ada", node.roster, node.identity.public_key)
    assert all("no proof to others" in sentence for sentence in read_evidence(node.ledger, by_another))


def test_proof_that_is_damaged_proves_nothing(script: Script) -> None:
    node = script.federation.nodes["ada"]
    node.ledger.keep_proof("r1", b"damaged")
    assert "no proof to others" in read_evidence(node.ledger, Membership("ada", node.roster, node.coordinator_key))[0]


def test_commands_list_and_verify(institutions: Path) -> None:
    folder = str(institutions / "ada")
    listed = json.loads(call("--institution", folder, "--json").stdout)
    assert [(one["round"], one["sum"]) for one in listed["sums"]][:2] == [(0, "evaluate"), (0, "experts")] and listed[
        "institution"
    ] == "ada"
    header, *rows = call("--institution", folder).stdout.splitlines()
    assert header.split() == ["run", "round", "sum", "institutions", "finished", "(UTC)", "transcript"]
    assert rows[-1].split()[1:6] == ["3", "evaluate", "4", "2030-01-01", "00:00"]
    done = call("verify", "--institution", folder)
    assert done.exit_code == 0 and "Proved:" in done.stdout and "Not proved by this ledger:" in done.stdout
    document = json.loads(call("verify", "--institution", folder, "--json").stdout)
    assert document["ok"] and document["evidence"] == [] and document["schema"] == 1
    changed(institutions / "ada", ALTERED_ROOT)
    assert call("verify", "--institution", folder).exit_code == 1
    assert call("verify", "--nonsense").exit_code == 2


def test_options_before_verify_hold_for_it(institutions: Path) -> None:
    done = call("--institution", str(institutions / "ada"), "--json", "verify")
    assert done.exit_code == 0 and json.loads(done.stdout)["ok"]
    changed(institutions / "ada", ALTERED_ROOT)
    assert call("--institution", str(institutions / "ada"), "verify").exit_code == 1


def test_wrong_use_and_what_is_wrong_have_their_own_exit_codes(institutions: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("none")
    done = call("verify", "--institution", str(tmp_path / "README.md"))
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.strip().endswith("README.md is no institution's folder (it has no institution.toml); give one with --institution")
    for arguments in (["--json"], ["--json", "verify"], ["verify", "--json"]):
        done = call(*arguments, "--institution", str(tmp_path / "none"))
        document = json.loads(done.stdout)
        assert done.exit_code == 2 and document["ok"] is False and "none does not exist" in document["error"]
    (institutions / "ada" / "ledger.db").write_bytes(b"no database" * 1000)
    done = call("verify", "--institution", str(institutions / "ada"), "--json")
    assert done.exit_code == 1 and "cannot be read" in json.loads(done.stdout)["error"]


SCRIPT = """
import sys
from consortium.cli import app
for arguments in (["ledger"], ["ledger", "verify"]):
    app(["client", *arguments, "--institution", sys.argv[1]], standalone_mode=False)
loaded = {"torch", "flwr", "transformers", "coordinator.registry"} & sys.modules.keys()
assert not loaded, loaded
"""


def test_commands_load_neither_torch_nor_flwr(institutions: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(institutions / "ada")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
