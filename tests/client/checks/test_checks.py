"""Each check by itself: when it fails, and what it then says to do."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.checks.connection import check_clock, check_fence, check_port
from client.checks.finding import Finding, checked, ok
from client.checks.folder import check_files, check_identity, check_modes
from client.checks.plan import check_disk, check_memory, plan_findings
from client.checks.records import check_datasets, check_division, check_rows
from client.checks.roster import check_roster
from client.dataset import Dataset, Datasets
from client.errors import RecordError
from client.institution import read_membership
from client.records import read_source
from client.settings import RecordSettings, load_settings
from client.sources import Row
from protocols.identity import Identity
from protocols.plan import Plan
from protocols.policy import Policy
from protocols.roster import RosterEntry
from protocols.roster_offer import OfferedInstitution
from tests.client.small_institution import small_plan, write_institution

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.integers(-(10**6), 10**6))
def test_a_clock_may_be_five_minutes_behind_and_five_seconds_ahead(seconds: int) -> None:
    finding = check_clock(NOW + timedelta(seconds=seconds), NOW)
    assert (finding.outcome == "failed") == (not -300 <= seconds <= 5)
    assert str(abs(seconds)) in finding.sentence


def test_a_fence_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    finding = check_fence("127.0.0.1:1", tmp_path / "ca.pem")
    assert finding.outcome == "failed" and "127.0.0.1:1 cannot be reached" in finding.sentence and finding.remedy
    assert check_port(9446, free=False).outcome == "warning" and check_port(9446, free=True).outcome == "ok"


def test_files_and_modes(tmp_path: Path) -> None:
    folder = write_institution(tmp_path / "ada")
    assert "no node.key, tls.key, tls.pem, ca.pem, connection.toml" in check_files(folder).sentence
    assert check_modes(folder).outcome == "ok"
    (folder / "identity.key").chmod(0o640)
    assert check_modes(folder).remedy.startswith("chmod 600 identity.key")


def test_the_identity_is_the_roster_s(tmp_path: Path) -> None:
    membership = read_membership(write_institution(tmp_path / "ada"))
    assert check_identity(membership, Identity("ada", bytes([1]) * 32)).outcome == "ok"
    assert check_identity(membership, Identity.generate("ada", os.urandom)).outcome == "failed"


def offer_of(entry: RosterEntry) -> OfferedInstitution:
    return OfferedInstitution(entry, "", "", (), ())


def test_a_roster_has_enough_members_and_all_that_are_offered(tmp_path: Path) -> None:
    membership = read_membership(write_institution(tmp_path / "ada", members=3))
    offer = [offer_of(entry) for entry in membership.roster.entries]
    assert check_roster(membership, small_plan(), offer).outcome == "ok"
    assert check_roster(membership, small_plan(participation={"quorum": 4}), offer).outcome == "failed"
    assert "is not known" in check_roster(membership, None, None).sentence
    zoe = offer_of(RosterEntry("zoe", bytes([9]) * 32))
    more = check_roster(membership, None, [*offer, zoe])
    assert more.outcome == "warning" and more.sentence.endswith("otherwise in the coordinator's offer: zoe (new)")
    other_key = offer_of(RosterEntry("ada", bytes([9]) * 32))
    assert check_roster(membership, None, [other_key, *offer[1:]]).remedy == "ask the operator what happened"


def test_memory_and_disk_are_compared_with_what_is_free(tmp_path: Path) -> None:
    assert check_memory(10**9, 2 * 10**9, "cpu").sentence == "training takes about 1.0 GB on cpu and 2.0 GB are free"
    assert "micro_batch" in check_memory(3 * 10**9, 2 * 10**9, "cpu").remedy
    assert check_memory(10, None, "cpu").outcome == "skipped" and "no cuda:1" in check_memory(10, None, "cuda:1").sentence
    assert [check_disk(10, free, tmp_path).outcome for free in (10, 9)] == ["ok", "failed"]


def test_long_records_are_counted() -> None:
    sides = Datasets(Dataset((), 2, 0), Dataset((), 0, 3))
    assert "2 are cut and 3 left out" in check_datasets(sides, small_plan()).sentence
    assert check_datasets(Datasets(Dataset((), 0, 0), Dataset((), 0, 0)), small_plan()).outcome == "ok"


def test_an_error_becomes_a_finding_with_its_remedy(tmp_path: Path) -> None:
    folder = write_institution(tmp_path / "ada")
    settings = load_settings(folder / "institution.toml").records
    assert "holds 40 records" in check_rows(settings, read_source(settings)).sentence
    (folder / "records.jsonl").write_text('{"text": secret}\n')
    finding = checked("records", lambda: read_source(settings), lambda rows: check_rows(settings, rows))
    assert finding.outcome == "failed" and "line 1: not valid JSON" in finding.sentence and "secret" not in str(finding)
    assert finding.remedy == "each line must hold one object"


def test_a_column_that_says_what_is_test_and_is_not_named_is_a_warning() -> None:
    rows = [Row({"text": "a rose", "split": "test"}, "r.csv, line 2")]
    by_hash, by_column = RecordSettings(source="r.csv", test_fraction=0.2), RecordSettings(source="r.csv", split="split")
    (finding,) = check_division(by_hash, rows)
    assert finding.outcome == "warning" and 'split = "split"' in finding.remedy
    assert not list(check_division(by_column, rows)) and not list(check_division(by_hash, [Row({"text": "a rose"}, "")]))


def test_an_error_without_a_remedy_is_told_whole() -> None:
    def read() -> str:
        raise RecordError("one thing")

    assert checked("x", read, lambda _: ok("x", "")) == Finding("x", "failed", "one thing", "")


def outcomes(plan: Plan, folder: Path, policy: Policy | None = None) -> dict[str, str]:
    found = plan_findings(plan, load_settings(folder / "institution.toml"), policy or Policy())
    return {finding.name: finding.outcome for finding in found}


def test_a_plan_is_compared_with_base_and_policy(tmp_path: Path) -> None:
    folder = write_institution(tmp_path / "ada")
    fine = dict.fromkeys(("hardware", "policy", "bytes per round", "memory", "disk"), "ok")
    assert outcomes(small_plan(), folder) == {"base": "warning", **fine}
    assert outcomes(small_plan(), folder, Policy(fields=("text",)))["policy"] == "failed"
    assert outcomes(small_plan(), folder, Policy(approval="plan"))["policy"] == "warning"
    other = small_plan(base={"name": "tiny", "sha256": "b" * 64})
    assert outcomes(other, folder) == {"base": "failed", "hardware": "ok"}


@pytest.mark.parametrize("name", ["other", "tiny"])
def test_a_base_that_is_not_there_fails(tmp_path: Path, name: str) -> None:
    folder = write_institution(tmp_path / "ada")
    text = (folder / "institution.toml").read_text()
    bound = next(line for line in text.splitlines() if line.startswith('"tiny"'))
    (folder / "institution.toml").write_text(text.replace(bound, f'"tiny" = "{tmp_path}"'))
    assert outcomes(small_plan(base=name), folder)["base"] == "failed"
