"""Whole runs: sums equal the plain weighted mean, dropouts are left out, killed runs go on with the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message

from client.contribution import local_weights
from coordinator.errors import JobError
from coordinator.events import ExpertsChosen, RoundFinished, RunFailed, StageFinished, SumFinished
from coordinator.job import RunResult
from coordinator.registry.states import RunState
from protocols.aggregation import ServerOptimizer, ServerStep, Weights
from protocols.identity import open_envelope, seal_envelope
from protocols.schedule import PlannedSum, planned_sums
from protocols.selection import normalized_affinities, select_experts
from protocols.state import State, state_hash
from protocols.terms import Terms
from protocols.wire import Parcel, from_record, to_record
from tests.federation.federation import NAMES, Crash, Federation, FormulaWork, make_plan


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path, make_plan())
    yield made
    made.close()


def plain_run(federation: Federation, names: Sequence[str]) -> State:
    """The same plan with the vectors summed in the open, in float64."""
    terms, works = Terms(federation.plan, federation.adaptation), [federation.works[name] for name in names]
    affinities = [normalized_affinities(work.expert_affinity()) for work in works]
    summed = {layer: np.sum([a[layer] for a in affinities], axis=0) for layer in affinities[0]}
    experts = select_experts(summed, federation.plan.trainable.expert_top_p)
    state = State(terms.start().base_sha256, 0, federation.adaptation.initial(experts), experts)
    for planned in planned_sums(federation.plan):
        if planned.kind == "update":
            state = _plain_update(terms, state, planned, works)
    return state


def _plain_update(terms: Terms, state: State, planned: PlannedSum, works: Sequence[FormulaWork]) -> State:
    trained = terms.trained(state, planned)
    names = [tensor.name for tensor in trained]
    updates = [work.train(planned.round, state.tensors, names, state.experts) for work in works]
    weights = [local_weights(update, terms, state) for update in updates]
    parts = [terms.rule.contribution(update.delta, weight, trained) for update, weight in zip(updates, weights, strict=True)]
    total = {name: np.sum([part[name] for part in parts], axis=0) for name in names}
    experts = {key: sum(weight.experts[key] for weight in weights) for key in weights[0].experts}
    summed = Weights(sum(weight.shared for weight in weights), experts)
    return terms.rule.apply(state, total, summed, trained, ServerStep(ServerOptimizer.from_plan(terms.plan.aggregation, 1.0)))


def state_at(federation: Federation, name: str, result: RunResult) -> bytes | None:
    """Hash of the state that an institution's own ledger names."""
    position = federation.nodes[name].ledger.position(result.run)
    return position and position.state_hash


def assert_close(state: State, expected: State) -> None:
    assert state.experts == expected.experts and state.round == expected.round and state.tensors.keys() == expected.tensors.keys()
    for name, values in expected.tensors.items():
        np.testing.assert_allclose(state.tensors[name], values, atol=2e-5)
    moved = [name for name, values in expected.tensors.items() if np.abs(values - _start(expected, name)).max() > 1e-3]
    assert moved


def _start(expected: State, name: str) -> float:
    return 0.0 if "lora_B" in name else np.inf


EARLY_STAGES = ("query.hello", "query.epoch_keys", "query.epoch_confirm")


def test_run_equals_plain_weighted_mean(federation: Federation) -> None:
    result = federation.run()
    assert_close(result.state, plain_run(federation, NAMES))
    assert result.threshold == 3 and result.colluding == 1
    assert {state_at(federation, name, result) for name in NAMES} == {state_hash(result.state)}


@pytest.mark.parametrize("aggregation", [{"rule": "fedavg"}, {"server_optimizer": "nesterov"}, {"weights": "tokens"}], ids=str)
def test_every_rule_equals_its_plain_mean(tmp_path: Path, aggregation: dict[str, str]) -> None:
    federation = Federation(tmp_path, make_plan(aggregation=aggregation))
    assert_close(federation.run().state, plain_run(federation, NAMES))
    federation.close()


@pytest.mark.parametrize("bits", [24, 20])
def test_a_run_with_narrow_lanes_ends_near_the_plain_mean(tmp_path: Path, bits: int) -> None:
    federation = Federation(tmp_path, make_plan(secure_aggregation={"lanes": bits}))
    result = federation.run()
    for name, values in plain_run(federation, NAMES).tensors.items():
        np.testing.assert_allclose(result.state.tensors[name], values, atol=2.0**-bits * 100)
    federation.close()


def test_registry_and_events_tell_the_same(federation: Federation) -> None:
    result = federation.run()
    rows, events = federation.registry.rounds(result.run), federation.of(RoundFinished)
    assert federation.registry.run(result.run).state is RunState.FINISHED
    assert [row.number for row in rows] == [0, 1, 2] == [event.round for event in events]
    assert [(row.loss, row.metric, row.bytes_up) for row in rows] == [(event.loss, event.metric, event.bytes_up) for event in events]
    assert rows[0].loss is None and rows[1].loss == pytest.approx(2.0, abs=0.5)
    assert rows[0].metric == pytest.approx(sum(3 + ord(name[0]) % 3 for name in NAMES) / 40)
    assert rows[0].experts == result.state.experts and all(row.institutions == 4 for row in rows)
    assert rows[2].state_sha256 == state_hash(result.state).hex()


@pytest.mark.parametrize("stage", ["query.epoch_shares", "train.sum", *(pytest.param(s, marks=pytest.mark.slow) for s in EARLY_STAGES)])
def test_institution_that_fails_before_its_upload_is_left_out(tmp_path: Path, stage: str) -> None:
    federation = Federation(tmp_path, make_plan(), fails=lambda name, message_type: name == "bea" and message_type == stage)
    result = federation.run()
    assert_close(result.state, plain_run(federation, ["ada", "cyd", "dov"]))
    assert "bea" in federation.registry.rounds(result.run)[1].missing
    federation.close()


@pytest.mark.parametrize("stage", ["query.survivors", "query.unmask"])
def test_institution_that_fails_after_its_upload_is_counted(tmp_path: Path, stage: str) -> None:
    federation = Federation(tmp_path, make_plan(), fails=lambda name, message_type: name == "bea" and message_type == stage)
    result = federation.run()
    assert_close(result.state, plain_run(federation, NAMES))
    federation.close()


def test_institution_that_misses_the_transcripts_of_updates_is_counted_in_them(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan())
    federation.fails = lambda name, kind: (name, kind) == ("bea", "query.transcript") and federation.of(SumFinished)[-1].kind == "update"
    result = federation.run()
    assert_close(result.state, plain_run(federation, NAMES))
    federation.close()


def test_institution_that_missed_a_round_catches_up(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan(rounds=3))
    federation.fails = lambda name, _: name == "dov" and len(federation.of(RoundFinished)) == 1
    result = federation.run()
    rounds = federation.registry.rounds(result.run)
    assert [row.missing for row in rounds] == [(), ("dov",), (), ()]
    assert state_at(federation, "dov", result) == state_hash(result.state)
    federation.close()


def test_institution_that_missed_one_transcript_gets_it_again_and_no_state(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan(), keep_messages=True)
    federation.fails = lambda name, kind: (name, kind) == ("dov", "query.transcript") and _last_sum(federation) == (1, "evaluate")
    result = federation.run()
    ledger, asked = federation.nodes["dov"].ledger, [m.metadata.message_type for n, m in federation.messages if n == "dov"]
    sums = [(planned.round, planned.kind) for planned in planned_sums(federation.plan)]
    assert [event.round for event in federation.of(StageFinished) if "dov" in dict(event.missing)] == [1]
    assert "query.state" not in asked and [(done.round, done.sum) for done in ledger.finished_sums()] == sums
    assert state_at(federation, "dov", result) == state_hash(result.state)
    federation.close()


def _last_sum(federation: Federation) -> tuple[int, str]:
    last = [(event.round, event.kind) for event in federation.of(SumFinished)][-1:]
    return last[0] if last and len(federation.of(RoundFinished)) <= last[0][0] else (-1, "")


def test_sum_that_was_finished_and_never_told_is_told_by_the_next_process(tmp_path: Path) -> None:
    first = Federation(tmp_path, make_plan())
    with pytest.raises(Crash):
        first.run(lambda event: _die_after(event, ExpertsChosen))
    assert [first.nodes[name].ledger.finished_sums()[-1].sum for name in NAMES] == ["evaluate"] * 4
    first.close()
    second = Federation(tmp_path, make_plan(), keep_messages=True)
    result = second.run()
    assert {len(second.nodes[name].ledger.finished_sums()) for name in NAMES} == {len(planned_sums(second.plan))}
    assert "query.state" not in {message.metadata.message_type for _, message in second.messages}
    assert {state_at(second, name, result) for name in NAMES} == {state_hash(result.state)}
    second.close()


def _die_after(event: object, kind: type) -> None:
    if isinstance(event, kind):
        raise Crash


def test_lost_confirmations_are_asked_for_again_before_a_state_is_handed_over(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan(rounds=3))
    federation.fails = lambda name, _: name == "dov" and len(federation.of(RoundFinished)) == 1
    lost: list[Path] = []

    def lose(event: object) -> None:
        if isinstance(event, RoundFinished) and event.round == 1:
            for path in tmp_path.glob("runs/*/sums/*/confirmations"):
                path.unlink()
                lost.append(path)

    result = federation.run(lose)
    assert lost
    assert [row.missing for row in federation.registry.rounds(result.run)] == [(), ("dov",), (), ()]
    assert state_at(federation, "dov", result) == state_hash(result.state)
    federation.close()


def test_answer_that_names_another_manifest_is_not_counted(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan())
    honest, identity = federation.apps["dov"], federation.nodes["dov"].identity

    def renaming(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        if message.metadata.message_type != "train.sum":
            return reply
        parcel = from_record(reply.content)
        envelope = replace(open_envelope(parcel.envelope, federation.roster), manifest_hash=b"\1" * 32)
        return Message(to_record(Parcel(seal_envelope(identity, envelope), parcel.arrays)), reply_to=message)

    federation.apps["dov"] = renaming
    result = federation.run()
    assert all("dov" in row.missing for row in federation.registry.rounds(result.run))
    federation.close()


def test_too_few_institutions_fail_the_run_and_the_registry_says_why(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan(), fails=lambda name, message_type: name in ("bea", "cyd") and message_type == "train.sum")
    with pytest.raises(JobError, match="round 0, experts"):
        federation.run()
    (run,) = federation.registry.runs()
    assert run.state is RunState.FAILED and run.reason == federation.of(RunFailed)[0].reason and "bea" in run.reason
    federation.close()


SLOW_STAGES = [pytest.param(stage, marks=pytest.mark.slow) for stage in ("query.survivors", "query.unmask", "query.transcript", "sum")]


@pytest.mark.parametrize("stage", ["train.sum", *SLOW_STAGES, pytest.param("round", marks=pytest.mark.slow)])
def test_killed_run_goes_on_with_the_same_bits(tmp_path: Path, stage: str) -> None:
    undisturbed = Federation(tmp_path / "a", make_plan())
    expected = state_hash(undisturbed.run().state)
    undisturbed.close()
    first = Federation(tmp_path / "b", make_plan())
    with pytest.raises(Crash):
        first.run(lambda event: _die(event, stage))
    first.close()
    second = Federation(tmp_path / "b", make_plan())
    result = second.run()
    assert state_hash(result.state) == expected
    assert len(second.registry.runs()) == 1 and [row.number for row in second.registry.rounds(result.run)] == [0, 1, 2]
    assert all(len(set(first.works[n].trainings + second.works[n].trainings)) == 2 for n in NAMES)
    assert all(len(first.works[n].trainings + second.works[n].trainings) == 2 for n in NAMES), "a stored vector was computed again"
    second.close()


def _die(event: object, stage: str) -> None:
    if isinstance(event, StageFinished) and (event.round, event.kind, event.stage) == (1, "update", stage):
        raise Crash
    if stage == "sum" and isinstance(event, SumFinished) and (event.round, event.kind) == (1, "update"):
        raise Crash
    if stage == "round" and isinstance(event, RoundFinished) and event.round == 1:
        raise Crash


def test_finished_plan_is_run_anew_with_the_same_bits(federation: Federation) -> None:
    first = federation.run()
    assert federation.registry.run(first.run).state is RunState.FINISHED
    second = federation.run()
    assert second.run != first.run and state_hash(second.state) == state_hash(first.state)
