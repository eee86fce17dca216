"""A simulation's folder: nobody else's file is taken away, and nothing is gone on with that is not the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from consortium import workplace
from consortium.errors import SimulationError
from consortium.preparation import Preparation, prepare
from consortium.workplace import MARKER, Workplace, open_workplace
from protocols.errors import PlanError
from protocols.plan import load_plan
from tests.consortium.small_plan import small_records, write_small


@pytest.fixture
def prepared(tmp_path: Path) -> Preparation:
    return prepare(load_plan(write_small(tmp_path)), tmp_path)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _made(prepared: Preparation, out: Path) -> Workplace:
    place = open_workplace(prepared, out, overwrite=False)
    assert place.plan_file.read_bytes() == prepared.plan.canonical()
    return place


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["institutions/mine/notes.txt", "identity.key", "plan.json", f"{MARKER}.txt"])
def test_a_folder_that_no_simulation_made_is_refused_and_left_as_it_is(
    tmp_path: Path, prepared: Preparation, name: str, overwrite: bool
) -> None:
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(SimulationError, match="no simulation made"):
        open_workplace(prepared, tmp_path / "out", overwrite)
    assert _contents(tmp_path / "out") == {name: b"mine"}


@pytest.mark.parametrize("content", ["", "{}", "[]", "{"])
def test_a_damaged_marker_names_no_folder_as_ours(tmp_path: Path, prepared: Preparation, content: str) -> None:
    place = _made(prepared, tmp_path / "out")
    (place.out / MARKER).write_text(content)
    before = _contents(place.out)
    with pytest.raises(SimulationError, match=f"{MARKER} is damaged"):
        open_workplace(prepared, place.out, overwrite=True)
    assert _contents(place.out) == before


def test_a_run_goes_on_where_it_began(tmp_path: Path, prepared: Preparation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workplace, "check_device", lambda _: None)  # such a GPU is there
    place = open_workplace(prepared, tmp_path / "out", overwrite=False, device="cuda:1")
    assert {place.settings(name).hardware.device for name in place.names} == {"cuda:1"} == {place.hardware.device}
    before = _contents(place.out)
    with pytest.raises(SimulationError, match="out holds a run on cuda:1; go on with --device cuda:1, give --overwrite"):
        open_workplace(prepared, place.out, overwrite=False, device="cpu")
    assert _contents(place.out) == before
    for again in (None, "cuda:1"):
        assert open_workplace(prepared, place.out, overwrite=False, device=again) == place
    assert open_workplace(prepared, place.out, overwrite=True).hardware.device == "cpu"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_no_folder(tmp_path: Path, prepared: Preparation, overwrite: bool) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SimulationError, match="out is a file"):
        open_workplace(prepared, tmp_path / "out", overwrite)
    assert (tmp_path / "out").read_text() == "mine"


def test_the_same_plan_and_records_go_on_with_the_same_keys(tmp_path: Path, prepared: Preparation) -> None:
    place = _made(prepared, tmp_path / "out")
    before = _contents(place.out)
    _made(prepared, place.out)
    assert _contents(place.out) == before


def test_corrected_records_are_refused_until_they_may_replace_the_old_ones(tmp_path: Path, prepared: Preparation) -> None:
    place = _made(prepared, tmp_path / "out")
    rows = small_records()
    rows[1]["note"] = "corrected"
    corrected = prepare(load_plan(write_small(tmp_path, rows)), tmp_path)
    assert corrected.plan == prepared.plan
    with pytest.raises(SimulationError, match="another plan, seed or records"):
        open_workplace(corrected, place.out, overwrite=False)
    open_workplace(corrected, place.out, overwrite=True)
    assert b"corrected" in (place.institutions / "north" / "records.jsonl").read_bytes()
    open_workplace(corrected, place.out, overwrite=False)


def test_overwriting_takes_away_what_a_simulation_makes_and_nothing_else(tmp_path: Path, prepared: Preparation) -> None:
    place = _made(prepared, tmp_path / "out")
    for name in ("models/small/1/README.md", "runs/r/journal.json", "baselines/pooled.json", "registry.db", "report.json"):
        (place.out / name).parent.mkdir(parents=True, exist_ok=True)
        (place.out / name).write_text("old")
    for name in ("notes.txt", "registry.db.backup"):
        (place.out / name).write_text("mine")
    key = (place.out / "identity.key").read_bytes()
    open_workplace(prepared, place.out, overwrite=True)
    contents = _contents(place.out)
    assert b"old" not in contents.values()
    assert contents["notes.txt"] == contents["registry.db.backup"] == b"mine"
    assert contents["identity.key"] != key


def test_a_folder_that_was_half_made_is_made_anew(tmp_path: Path, prepared: Preparation) -> None:
    out = tmp_path / "out"
    (out / "institutions" / "north").mkdir(parents=True)
    (out / MARKER).write_text('{"records_sha256": "of an earlier attempt"}')
    (out / "config.json").write_text("{}")
    _made(prepared, out)
    _made(prepared, out)


def test_results_without_their_plan_are_not_taken_for_a_half_made_folder(tmp_path: Path, prepared: Preparation) -> None:
    place = _made(prepared, tmp_path / "out")
    (place.out / "registry.db").write_text("trained")
    place.plan_file.unlink()
    with pytest.raises(SimulationError, match=r"without its plan\.json"):
        open_workplace(prepared, place.out, overwrite=False)
    assert (place.out / "registry.db").read_text() == "trained"


def test_a_marker_that_was_being_written_does_not_stand_in_the_way(tmp_path: Path, prepared: Preparation) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".{MARKER}.k1ll3d").write_text("")
    _made(prepared, tmp_path / "out")


def test_each_institution_gets_its_own_rank(tmp_path: Path) -> None:
    plan = write_small(tmp_path)
    text = (
        plan.read_text()
        .replace("lora_rank = 2", 'lora_rank = 2\nranks = "nested"')
        .replace("institutions = 3", "institutions = 3\nmax_ranks = [2, 1, 1]")
    )
    plan.write_text(text)
    place = _made(prepare(load_plan(plan), tmp_path), tmp_path / "out")
    assert [place.settings(name).hardware.max_rank for name in place.names] == [2, 1, 1]


def test_ranks_of_simulated_institutions_are_one_each_and_nested(tmp_path: Path) -> None:
    plan = write_small(tmp_path)
    plan.write_text(plan.read_text().replace("institutions = 3", "institutions = 3\nmax_ranks = [2, 1]"))
    with pytest.raises(PlanError, match="max_ranks has 2 entries and there are 3 institutions"):
        load_plan(plan)
    plan.write_text(plan.read_text().replace("[2, 1]", "[2, 1, 1]"))
    with pytest.raises(PlanError, match='simulation.max_ranks needs trainable.ranks = "nested"'):
        load_plan(plan)
