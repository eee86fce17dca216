"""A simulation that is killed goes on; a finished one is reported again; another is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.errors import RecordError
from consortium import simulate
from consortium.errors import SimulationError
from consortium.preparation import prepare
from consortium.workplace import open_workplace
from coordinator.errors import JobError
from coordinator.events import RoundFinished
from protocols.plan import load_plan
from protocols.policy import Policy, load_policy, write_policy
from protocols.state import load_state, state_hash
from protocols.sums.evaluate import WORSE_THAN_ALONE
from tests.consortium.small_notes import write_plan
from tests.consortium.small_plan import TEMPLATES, small_records, write_small


class Killed(BaseException):
    """The process dies here."""


def _kill_after(number: int) -> object:
    def watch(event: object) -> None:
        if isinstance(event, RoundFinished) and event.round == number:
            raise Killed

    return watch


@pytest.mark.slow
def test_a_killed_simulation_goes_on_to_the_same_figures(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    whole = simulate(plan, tmp_path / "whole", baselines=False)
    with pytest.raises(Killed):
        simulate(plan, tmp_path / "killed", baselines=False, on_event=_kill_after(1))  # type: ignore[arg-type]
    resumed = simulate(plan, tmp_path / "killed", baselines=False)
    assert resumed["federated"] == whole["federated"]
    assert [one["loss"] for one in resumed["rounds"]] == [one["loss"] for one in whole["rounds"]]
    assert simulate(plan, tmp_path / "killed", baselines=False).document == resumed.document
    with pytest.raises(SimulationError, match="another plan, seed or records"):
        simulate(plan, tmp_path / "killed", seed=5, baselines=False)


@pytest.mark.slow
def test_baselines_stand_beside_the_federation(tmp_path: Path) -> None:
    report = simulate(write_plan(tmp_path), tmp_path / "out", rounds=1)
    assert set(report["local_only"]["institutions"]) == set(report["federated_own"])
    assert 0.0 <= report["pooled"] <= 1.0


def test_bits_per_byte_counts_records_and_says_which_were_cut(tmp_path: Path) -> None:
    rows = small_records()
    rows[2]["note"] = rows[4]["note"] = rows[9]["note"] = "word " * 40
    templates = f'{TEMPLATES}\nmax_tokens = 24\ntoo_long = "truncate"'
    plan = write_small(tmp_path, rows, rounds=1, records=templates, evaluation='metric = "bits_per_byte"\nmax_records = 1')
    report = simulate(plan, tmp_path / "out", baselines=False)
    assert report["test_records"] == 3
    assert report["records"]["north"] == {"train": 6, "test": 1, "truncated": 2, "dropped": 0}
    assert report["records"]["south"]["truncated"] == 1
    report.path.unlink()  # what a sentence about a damaged report asks for
    assert simulate(plan, tmp_path / "out", baselines=False).document == report.document


def test_every_institution_has_settings_and_a_policy_that_its_node_obeys(tmp_path: Path) -> None:
    path = write_plan(tmp_path)
    place = open_workplace(prepare(load_plan(path), tmp_path), tmp_path / "out", overwrite=False)
    policies = [load_policy(place.institutions / name / "policy.toml") for name in place.names]
    assert policies == [Policy(min_institutions=3, colluding=1)] * 3
    write_policy(place.institutions / place.names[1] / "policy.toml", Policy(max_rounds=1))
    with pytest.raises(JobError, match=f"{place.names[1]}: rounds is 2 and this institution's policy allows at most 1"):
        simulate(path, tmp_path / "out", baselines=False)


def test_bad_records_leave_nothing_behind(tmp_path: Path) -> None:
    plan = write_plan(tmp_path)
    (tmp_path / "records.jsonl").write_text("not json\n")
    with pytest.raises(RecordError, match="line 1"):
        simulate(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_institutions_of_different_ranks_train_in_batches(tmp_path: Path) -> None:
    rows = [row | {"site": f"{row['site']}-{half}"} for half in (1, 2) for row in small_records()]
    plan = write_small(tmp_path, rows, rounds=2, more='[participation]\nbatches = 2\n[aggregation]\nrule = "ffa"\n')
    text = plan.read_text().replace("lora_rank = 2", 'lora_rank = 2\nranks = "nested"')
    plan.write_text(text.replace("institutions = 3", "institutions = 6\nmax_ranks = [2, 2, 2, 2, 2, 1]"))
    report = simulate(plan, tmp_path / "out")
    assert [one["institutions"] for one in report["rounds"]] == [3, 6], "round 1 measures nothing"
    assert set(report["local_only"]["institutions"]) == set(report["federated_own"]) and report["pooled"] is not None


@pytest.mark.slow
def test_those_who_do_better_alone_are_as_many_as_the_baselines_say(tmp_path: Path) -> None:
    own_experts = ('experts = "none"', 'experts = "esft-token"\nexpert_rank = 2')
    plan = write_plan(tmp_path, own_experts, ("require = {}", "require = { no_institution_worse_than_alone = true }"))
    report = simulate(plan, tmp_path / "out", rounds=2)
    alone = {name: figures["own"] for name, figures in report["local_only"]["institutions"].items()}
    worse = sum(report["federated_own"][name] < own for name, own in alone.items())
    assert report["rounds"][-1]["figures"][WORSE_THAN_ALONE] == worse
    assert (report["model"] is None) == (worse > 0)
    for name in alone:
        (kept,) = (tmp_path / "out" / "institutions" / name / "node" / "alone").iterdir()
        assert state_hash(load_state(kept)) == state_hash(load_state(tmp_path / "out" / "baselines" / f"local-{name}.safetensors"))
