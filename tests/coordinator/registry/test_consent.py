"""Answers to plans, withdrawals, and the models that contain an institution."""

from dataclasses import replace

import pytest

from coordinator.errors import ChainBroken, RegistryError
from coordinator.registry import Registry
from coordinator.registry.records import Answer, Contribution, ModelVersion, NewRun, Round, Withdrawal
from coordinator.registry.states import RunState
from coordinator.release import TrainedModel
from coordinator.row_audit import audit_models, audit_rounds
from tests.coordinator.postgresql import both, forced

pytestmark = both
SIGNATURE = "5" * 128
YES = Answer("amber", True, "", '{"plan":"1"}', SIGNATURE)


def test_answer_is_replaced_when_it_changes(registry: Registry, running: str) -> None:
    said = registry.record_answer(running, YES)
    head = registry.head()
    assert (replace(said, at=None), registry.record_answer(running, YES), registry.head()) == (YES, said, head)
    no = registry.record_answer(running, replace(YES, accepted=False, reason="its policy forbids the module"))
    also = registry.record_answer(running, replace(YES, institution="birch"))
    assert registry.answers(running) == (no, also)
    assert [event.kind for event in registry.events(running)][-3:] == ["plan-answered"] * 3


def test_answers_belong_to_a_living_run_and_a_known_institution(registry: Registry, running: str, new_run: NewRun) -> None:
    other = registry.create_run(new_run, b"\x09").run
    registry.record_answer(running, YES)
    assert registry.answers(other) == ()
    with pytest.raises(RegistryError, match="there is no institution elder"):
        registry.record_answer(running, replace(YES, institution="elder"))
    registry.set_state(running, RunState.STOPPED, "the operator stopped it")
    with pytest.raises(RegistryError, match="obeys no more"):
        registry.record_answer(running, YES)


def test_withdrawal_is_from_one_run_or_from_all(registry: Registry, running: str, new_run: NewRun) -> None:
    other = registry.create_run(new_run, b"\x09").run
    one, every = Withdrawal("amber", running, "from one", SIGNATURE), Withdrawal("birch", None, "from all", SIGNATURE)
    kept = registry.withdraw(one), registry.withdraw(every)
    assert tuple(replace(found, at=None) for found in kept) == (one, every)
    assert (registry.withdraw(one), registry.withdraw(every)) == kept
    assert registry.withdrawals() == registry.withdrawals(running) == kept
    assert registry.withdrawals(other) == kept[1:]
    assert [event.run for event in registry.events() if event.kind == "institution-withdrew"] == [running, None]


def test_models_with_an_institution_are_those_whose_rounds_sum_it(registry: Registry, trained: TrainedModel) -> None:
    version = registry.add_model_version(ModelVersion("triage", 1, trained.run, "triage/1", "a" * 64, "d" * 64, "e" * 64, 0.5))
    assert registry.models_with("amber") == (version,)
    assert registry.models_with("delta") == ()  # missing from every round
    with pytest.raises(RegistryError, match="there is no institution elder"):
        registry.models_with("elder")


def test_withdrawn_model_stays_listed_with_its_reason(registry: Registry, trained: TrainedModel) -> None:
    registry.add_model_version(ModelVersion("triage", 1, trained.run, "triage/1", "a" * 64, "d" * 64, "e" * 64, 0.5))
    withdrawn = registry.withdraw_model("triage", 1, "amber withdrew")
    assert (withdrawn.withdrawn_reason, registry.model_versions()) == ("amber withdrew", (withdrawn,))
    assert withdrawn.withdrawn_at is not None
    for version, fault in ((1, "withdrawn before is"), (2, "there is no")):
        with pytest.raises(RegistryError, match=f"{fault} model triage {version}"):
            registry.withdraw_model("triage", version, "again")
    events = registry.events(trained.run)
    assert audit_models(trained.run, events, [withdrawn])
    with pytest.raises(ChainBroken, match="`withdrawn_reason` not as"):
        audit_models(trained.run, events, [replace(withdrawn, withdrawn_reason="")])


def test_reason_of_a_missing_institution_is_in_row_and_event(registry: Registry, running: str) -> None:
    missing = Contribution("amber", 1, 2, "update sum", "it did not answer within 60 s")
    registry.record_round(running, Round(0, "c" * 64, {}, (missing, Contribution("birch", 1, 2)), 1.0))
    assert registry.rounds(running)[0].contributions[0] == missing
    assert audit_rounds(running, registry.events(running), registry.rounds(running))
    forced(registry, "UPDATE contributions SET reason = '' WHERE bytes_up = 1")
    with pytest.raises(ChainBroken, match="`contributions` not as"):
        audit_rounds(running, registry.events(running), registry.rounds(running))
