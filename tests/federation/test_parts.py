"""Experts that too few institutions trained stay as they are, and nobody is let in or left out between the two sums of a round."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.work import LocalUpdate
from coordinator.errors import JobError
from coordinator.events import EpochCertified, RoundFinished, StageFinished, SumFinished
from protocols.encoding import decode
from protocols.secagg import SurvivorProposal, propose_survivors
from protocols.state import State, state_hash
from tests.federation.federation import NAMES, Crash, Federation, FormulaWork, make_plan
from tests.federation.scripted import Script

ALL = {"lora_rank": 2, "expert_rank": 2, "targets": ["lm_head"], "experts": "all"}
FIVE = (*NAMES, "eve")
SIX = (*FIVE, "flo")


def routed(work: FormulaWork, tokens: Mapping[int, int]) -> None:
    """From now on an institution's training routes these numbers of tokens to experts, in every layer."""
    train = work.train

    def counted(*args: object, **named: object) -> LocalUpdate:
        update: LocalUpdate = train(*args, **named)  # type: ignore[arg-type]
        counts = {layer: np.array([tokens.get(e, 0) for e in range(4)]) for layer in update.expert_tokens}
        return replace(update, expert_tokens=counts)

    work.train = counted  # type: ignore[method-assign]


def federation_of(directory: Path, names: tuple[str, ...] = FIVE, rounds: int = 2) -> Federation:
    """Everyone trains expert 0, all but ada expert 1, three of five expert 2, and ada alone expert 3."""
    made = Federation(directory, make_plan(rounds=rounds, trainable=ALL), names)
    for name, work in made.works.items():
        mine = {0: True, 1: name != "ada", 2: name in ("ada", "bea", "cyd"), 3: name == "ada"}
        routed(work, {expert: 5 for expert, trains in mine.items() if trains})
    return made


def moved(federation: Federation, state: State) -> set[int]:
    """Experts of which any tensor differs from the start."""
    start, layout = federation.adaptation.initial(state.experts), federation.adaptation.layout(state.experts)
    return {t.expert[1] for t in layout if t.expert and not np.array_equal(start[t.name], state.tensors[t.name])}


def test_experts_that_too_few_trained_stay_at_every_party(tmp_path: Path) -> None:
    federation = federation_of(tmp_path)
    result = federation.run()
    assert result.state.pre_round is not None and set(result.state.pre_round.kept.values()) == {(0, 1)}, "5 and 4 of 5, and 4 are needed"
    assert moved(federation, result.state) == {0, 1}
    positions = {federation.nodes[name].ledger.position(result.run) for name in FIVE}
    assert {position and position.state_hash for position in positions} == {state_hash(result.state)}
    assert [event.kind for event in federation.of(SumFinished)] == ["evaluate", *["parts", "update", "evaluate"] * 2]
    rows = federation.registry.rounds(result.run)
    assert [row.experts and set(row.experts.values()) for row in rows] == [{(0, 1, 2, 3)}, {(0, 1)}, {(0, 1)}]
    federation.close()


def test_dropout_between_the_sums_of_a_round_leaves_enough_contributors(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, rounds=1)
    federation.fails = lambda name, kind: name == "eve" and kind == "train.sum" and federation.of(SumFinished)[-1].kind == "parts"
    result = federation.run()
    update = next(event for event in federation.of(SumFinished) if event.kind == "update")
    assert update.institutions == NAMES and moved(federation, result.state) == {0, 1}
    federation.close()


def test_institution_that_missed_the_pre_round_is_not_asked_for_the_update(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, rounds=2)
    federation.fails = lambda name, kind: name == "eve" and kind == "train.sum" and len(federation.of(SumFinished)) == 1
    result = federation.run()
    rounds = {(event.round, event.kind): event.institutions for event in federation.of(SumFinished)}
    assert rounds[1, "parts"] == rounds[1, "update"] == NAMES and rounds[2, "parts"] == rounds[2, "update"] == FIVE
    asked = [event for event in federation.of(StageFinished) if (event.round, event.kind, event.stage) == (1, "update", "train.sum")]
    assert all("eve" not in dict(event.missing) for event in asked)
    assert federation.registry.rounds(result.run)[1].missing == ("eve",)
    federation.close()


def test_those_who_return_after_the_pre_round_do_not_raise_the_threshold_of_its_update(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, rounds=1)
    lost: list[str] = []

    def fails(name: str, kind: str) -> bool:
        done = federation.of(SumFinished)
        if name == "cyd" and kind == "query.transcript" and len(done) == 2 and not lost:
            lost.append(name)  # so that the update needs a new epoch
            return True
        return name in ("dov", "eve") and len(done) < 2

    federation.fails = fails
    federation.run()
    sets = {event.kind: event.institutions for event in federation.of(SumFinished)}
    assert lost and sets["parts"] == sets["update"] == NAMES[:3], "an epoch of all five would need four"
    federation.close()


def shrinking(directory: Path, gone: tuple[str, ...]) -> Federation:
    """Six count their parts; then these leave for ever, and the update needs a new epoch, as cyd does not hear of the count at first."""
    federation = federation_of(directory, SIX, rounds=1)
    lost: list[str] = []

    def fails(name: str, kind: str) -> bool:
        counted = len(federation.of(SumFinished)) == 2
        if name == "cyd" and kind == "query.transcript" and counted and not lost:
            lost.append(name)
            return True
        return name in gone and bool(lost)

    federation.fails = fails
    return federation


def test_update_in_a_smaller_epoch_is_opened_by_as_many_as_in_one_of_the_whole_pre_round(tmp_path: Path) -> None:
    federation = shrinking(tmp_path, ("eve", "flo"))
    federation.run()
    sets = {event.kind: event.institutions for event in federation.of(SumFinished)}
    assert sets["parts"] == SIX and sets["update"] == NAMES
    begun = [(event.institutions, event.threshold) for event in federation.of(EpochCertified)]
    assert begun[:2] == [(SIX, 4), (NAMES, 4)], "an epoch of four alone would need three"
    federation.close()


def test_update_after_which_too_few_of_the_pre_round_are_left_ends_the_run(tmp_path: Path) -> None:
    federation = shrinking(tmp_path, ("dov", "eve", "flo"))
    with pytest.raises(JobError, match="3 of the 6 institutions of this round's pre-round take part and its update needs 4; wait for dov"):
        federation.run()
    federation.close()


@pytest.mark.parametrize(("kind", "stage"), [("parts", "train.sum"), ("parts", "query.unmask"), ("update", "train.sum")])
def test_killed_federation_does_not_train_a_round_twice(tmp_path: Path, kind: str, stage: str) -> None:
    first = federation_of(tmp_path, NAMES, rounds=1)

    def die(event: object) -> None:
        if isinstance(event, StageFinished) and (event.round, event.kind, event.stage) == (1, kind, stage):
            raise Crash

    with pytest.raises(Crash):
        first.run(die)
    kept = [path for name in NAMES for path in (first.nodes[name].ledger.home / "vectors").rglob("1-training.safetensors")]
    assert len(kept) == 4 and {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    first.close()
    second = federation_of(tmp_path, NAMES, rounds=1)
    second.run()
    assert [first.works[name].trainings + second.works[name].trainings for name in NAMES] == [[1]] * 4
    assert not list((tmp_path / "institutions").rglob("*training*")), "the round is over"
    assert second.of(RoundFinished)[-1].missing == ()
    second.close()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    federation = federation_of(tmp_path, rounds=1)
    made = Script(federation)
    made.follow(made.sum(made.set_up(FIVE), 0, "evaluate", 0), FIVE)
    yield made
    federation.close()


def test_lanes_of_parts_that_are_not_kept_are_zero_before_they_are_masked(script: Script) -> None:
    epoch = script.set_up(FIVE)
    counted = script.sum(epoch, 1, "parts", 0)
    assert set(counted.lanes.tolist()) == {5, 4, 3, 1}
    script.follow(counted, FIVE)
    lanes = script.terms.lanes(script.state, script.planned(1, "update"))
    values = decode(script.sum(epoch, 1, "update", 1).lanes, lanes, len(FIVE))
    layout = {f"delta.{tensor.name}": tensor.expert for tensor in script.federation.adaptation.layout(script.state.experts)}
    experts = {part[1]: values[name] for name, part in layout.items() if part is not None and name in values}
    assert {expert for expert, lane in experts.items() if lane.any()} == {0, 1}
    assert all(list(values[f"expert_weights.{layer}"] > 0) == [True, True, False, False] for layer in script.state.experts)


def test_total_moves_no_part_that_is_not_kept_whatever_is_in_its_lanes(script: Script) -> None:
    script.follow(script.sum(script.set_up(FIVE), 1, "parts", 0), FIVE)
    size = script.terms.lanes(script.state, script.planned(1, "update")).size
    outcome = script.forge_outcome(script.forge_epoch(FIVE[1:], threshold=4), 1, "update", 0, np.full(size, 1 << 20, np.uint32))
    assert moved(script.federation, outcome.after) == {0, 1}
    assert script.publish("ada", outcome).refusal == ""


# A coordinator that does what it should not.


def test_contributors_may_not_be_left_out_between_the_sums(script: Script) -> None:
    epoch = script.set_up(FIVE)
    script.follow(script.sum(epoch, 1, "parts", 0), FIVE)
    smaller = script.set_up(NAMES[:3])  # an epoch of three has a threshold of three, and four are needed
    manifest = script.manifest(smaller, 1, "update", 0)
    proposal = propose_survivors(manifest, script.collect(smaller, manifest, NAMES[:3]).roots)
    assert "a set of 3 is smaller than the 4" in script.sign("ada", smaller, manifest, proposal).refusal
    certificate = script.forge_certificate(manifest, proposal, NAMES[:3])
    assert "a set of 3 is smaller than the 4" in script.open("ada", smaller, manifest, certificate).refusal
    assert len(script.federation.nodes["ada"].ledger.evidence()) == 2


def test_member_outside_the_pre_round_is_not_let_in(script: Script) -> None:
    script.follow(script.sum(script.set_up(FIVE), 1, "parts", 0, NAMES), FIVE)
    epoch = script.set_up(FIVE)  # a new epoch, in which eve is a member again
    manifest = script.manifest(epoch, 1, "update", 0)
    assert "eve was not in the pre-round of round 1" in script.send("eve", epoch, manifest).refusal
    honest = propose_survivors(manifest, script.collect(epoch, manifest, NAMES).roots)
    wider = SurvivorProposal(manifest.hash, {**honest.roots, "eve": b"\1" * 32})
    assert "eve was not in this round's pre-round" in script.sign("ada", epoch, manifest, wider).refusal
    assert "eve was not in" in script.open("ada", epoch, manifest, script.forge_certificate(manifest, wider, FIVE)).refusal
    assert script.sign("ada", epoch, manifest, honest).refusal == ""


def test_pre_round_binds_a_node_after_its_restart_too(script: Script) -> None:
    script.follow(script.sum(script.set_up(FIVE), 1, "parts", 0, NAMES), FIVE)
    script.federation.close()
    again = federation_of(script.federation.directory, rounds=1)
    reopened = Script(again, greet=False)
    reopened.state, reopened.last, reopened.epochs, reopened.attempt = script.state, script.last, script.epochs, script.attempt
    epoch = reopened.set_up(FIVE)
    manifest = reopened.manifest(epoch, 1, "update", 0)
    assert reopened.send("ada", epoch, manifest).refusal == "" and again.works["ada"].trainings == []
    proposal = SurvivorProposal(manifest.hash, dict.fromkeys(FIVE, b"\1" * 32) | {"ada": _root(again, manifest.hash)})
    assert "eve was not in this round's pre-round" in reopened.sign("ada", epoch, manifest, proposal).refusal


def _root(federation: Federation, manifest_hash: bytes) -> bytes:
    root = federation.nodes["ada"].ledger.claimed(f"root/{manifest_hash.hex()}")
    assert root is not None
    return root


def test_published_update_over_others_than_the_pre_round_is_refused(script: Script) -> None:
    script.follow(script.sum(script.set_up(FIVE), 1, "parts", 0, NAMES), FIVE)
    others = ("bea", "cyd", "dov", "eve")
    before, script.state = script.state, replace(script.state, pre_round=None)  # so that the script applies what nodes do not
    outcome = script.forge_outcome(script.forge_epoch(others), 1, "update", 0, state_hash=state_hash(before))
    assert "eve was not in this round's pre-round" in script.publish("ada", outcome).refusal


def test_same_inputs_have_one_pre_round(script: Script) -> None:
    epoch = script.set_up(FIVE)
    assert script.sum(epoch, 1, "parts", 0).lanes.size
    later = script.set_up(FIVE)
    manifest = script.manifest(later, 1, "parts", 0)
    proposal = propose_survivors(manifest, script.collect(later, manifest, NAMES).roots)
    assert "already signed another set for this sum" in script.sign("ada", later, manifest, proposal).refusal
