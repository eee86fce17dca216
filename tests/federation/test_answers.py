"""What institutions answer to a plan: accepted in writing, refused in a sentence, waited for, and withdrawn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from client.accepted import AcceptedPlans
from client.approvals import decide, waiting_plans
from client.decisions import Decision, Decisions
from client.settings import InstitutionSettings
from client.withdrawing import runs_to_leave, withdraw
from coordinator.answers import answer_lines
from coordinator.errors import JobError, RunStopped
from coordinator.events import Event, RoundFinished
from coordinator.link import Subject
from coordinator.registry.states import RunState, WantedState
from protocols.acceptance import Acceptance
from protocols.identity import open_envelope, seal_envelope
from protocols.pack import pack, unpack
from protocols.policy import Policy
from protocols.wire import Parcel, from_record, to_record
from tests.federation.attacks.weakened import weakened
from tests.federation.federation import NAMES, Federation, make_plan
from tests.federation.scripted import Script

SETTINGS = InstitutionSettings.model_validate({"records": {"source": "records.jsonl", "split": "split"}})
NIGHT = datetime(2030, 1, 1, 3, tzinfo=UTC)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path, make_plan(rounds=1, trainable={"lora_rank": 2, "targets": ["attention"], "experts": "none"}))
    yield made
    made.close()


def limit(federation: Federation, name: str, **terms: Any) -> None:
    federation.nodes[name] = replace(federation.nodes[name], policy=Policy(**terms))


def wait_with(federation: Federation, sleep: Callable[[float], None]) -> None:
    """The operator waits for answers, on a clock that goes on by what it sleeps."""
    passed = [0.0]

    def asleep(seconds: float) -> None:
        passed[0] += seconds
        sleep(seconds)

    federation.means = {"awaits_answers": True, "sleep": asleep}
    federation.clock = lambda: passed[0]


def only_run(federation: Federation) -> str:
    return federation.registry.run_names()[0]


def test_every_institution_accepts_in_writing_and_says_so_in_the_same_bytes(federation: Federation) -> None:
    result = federation.run()
    answers = federation.registry.answers(result.run)
    assert [(one.institution, one.accepted) for one in answers] == [(name, True) for name in sorted(NAMES)]
    for one in answers:
        kept = federation.nodes[one.institution].ledger.accepted.acceptance(result.run)
        assert kept is not None and one.statement == kept.hex()
        Acceptance.from_bytes(kept).check(result.run, federation.plan, one.institution, federation.roster.key_of(one.institution))
    assert sum(event.kind == "plan-answered" for event in federation.registry.events(result.run)) == len(NAMES)


def test_a_refusal_is_kept_with_its_sentence_and_the_others_go_on(federation: Federation) -> None:
    limit(federation, "ada", fields=("code",))
    result = federation.run()
    ada = federation.registry.answers(result.run)[0]
    assert (ada.accepted, ada.reason) == (
        False,
        "[records] uses note and this institution's policy allows code; change the plan, or fields in the policy if the institution agrees",
    )
    lines = answer_lines(federation.registry.answers(result.run), [*NAMES, "eve"])
    assert lines[0] == f"ada: no ({ada.reason})"
    assert lines[1] == "bea: accepted, signed 2030-01-01T00:00:00+00:00"
    assert lines[-1] == "eve: no answer yet"


def answering_with(federation: Federation, name: str, change: Callable[[Acceptance], Acceptance]) -> list[Acceptance]:
    """The institution greets with another acceptance than its node signed; what it said is added to the list."""
    honest, said = federation.apps[name], list[Acceptance]()

    def lying(message: Any, context: Any) -> Any:
        reply = honest(message, context)
        if message.metadata.message_type == "query.hello":
            envelope = open_envelope(from_record(reply.content).envelope, federation.roster)
            parts = dict(unpack(envelope.payload))
            said.append(change(Acceptance.from_bytes(parts["acceptance"])))
            sealed = seal_envelope(
                federation.nodes[name].identity, replace(envelope, payload=pack(parts | {"acceptance": said[-1].to_bytes()}))
            )
            reply.content = to_record(Parcel(sealed))
        return reply

    federation.apps[name] = lying
    return said


@pytest.mark.parametrize(
    ("by", "at"),
    [("bea", ""), ("ada", "\x1b[2J"), ("ada", "0" * 1_000_000), ("ada", "2030-01-01")],
    ids=["another", "escape", "long", "day"],
)
def test_an_acceptance_that_another_signed_or_of_no_time_is_none(federation: Federation, by: str, at: str) -> None:
    """To be taken for who accepted, or to write whatever one likes onto the operator's terminal and into the registry."""
    signer = federation.nodes[by].identity.sign
    answering_with(federation, "ada", lambda signed: replace(signed, at=at or signed.at).signed_by(signer))
    result = federation.run()
    assert "ada" not in {one.institution for one in federation.registry.answers(result.run)}
    assert {row.missing for row in federation.registry.rounds(result.run)} == {("ada",)}


def test_who_accepts_anew_with_every_greeting_is_written_down_once(federation: Federation) -> None:
    """To fill the registry, and the event chain that all institutions follow."""
    signer = federation.nodes["ada"].identity.sign
    said = answering_with(
        federation, "ada", lambda signed: replace(signed, at=f"2030-01-{1 + len(said):02}T00:00:00+00:00").signed_by(signer)
    )
    wait_with(federation, lambda _: None)
    result = federation.run()
    assert len(said) > 1
    answered = [event for event in federation.registry.events(result.run) if event.kind == "plan-answered"]
    assert len(answered) == len(NAMES)


def test_outside_of_its_hours_an_institution_is_missing_and_not_stopped(federation: Federation) -> None:
    limit(federation, "ada", hours="22:00-06:00")
    federation.nodes["ada"] = replace(federation.nodes["ada"], local_time=lambda: NIGHT.replace(hour=12))
    result = federation.run()
    assert federation.works["ada"].trainings == []
    assert all("ada" in row.missing for row in federation.registry.rounds(result.run))
    assert all(answer.accepted for answer in federation.registry.answers(result.run))


def test_within_its_hours_it_trains(federation: Federation) -> None:
    limit(federation, "ada", hours="22:00-06:00")
    federation.nodes["ada"] = replace(federation.nodes["ada"], local_time=lambda: NIGHT)
    federation.run()
    assert federation.works["ada"].trainings == [1]


def test_a_run_waits_until_enough_people_approved_its_plan(federation: Federation) -> None:
    seen: list[RunState] = []

    def approve(_: float) -> None:
        run = only_run(federation)
        seen.append(federation.registry.run(run).state)
        for name in ("ada", "bea"):
            ledger = federation.nodes[name].ledger
            (waiting,) = waiting_plans(ledger, SETTINGS)
            decide(ledger, waiting, "", None)

    for name in ("ada", "bea"):
        limit(federation, name, approval="plan")
    wait_with(federation, approve)
    result = federation.run()
    assert seen == [RunState.ACCEPTING]
    assert all(answer.accepted for answer in federation.registry.answers(result.run))
    assert federation.nodes["ada"].ledger.accepted.pending() == []
    assert federation.registry.rounds(result.run)[0].missing == ()


def test_a_plan_that_too_few_accept_fails_at_the_deadline_and_says_who_was_waited_for(federation: Federation) -> None:
    for name in ("ada", "bea"):
        limit(federation, name, approval="plan")
    wait_with(federation, lambda _: None)
    with pytest.raises(JobError, match="2 of 4 institutions accepted the plan within 5 s.*ada: ada waits for its own people"):
        federation.run()
    run = only_run(federation)
    assert federation.registry.run(run).state is RunState.FAILED
    reason = federation.registry.answers(run)[0].reason
    assert f"somebody there runs `consortium client approve {run}`" in reason
    assert all(work.trainings == [] for work in federation.works.values())


def test_the_wait_ends_when_the_operator_stops_the_run(federation: Federation) -> None:
    for name in NAMES:
        limit(federation, name, approval="plan")

    def stop(_: float) -> None:
        federation.registry.set_wanted(only_run(federation), WantedState.STOPPED)

    wait_with(federation, stop)
    with pytest.raises(RunStopped):
        federation.run()
    assert federation.registry.run(only_run(federation)).state is RunState.STOPPED


def test_a_refusal_by_hand_travels_with_its_reason(federation: Federation) -> None:
    def refuse(_: float) -> None:
        ledger = federation.nodes["ada"].ledger
        decide(ledger, waiting_plans(ledger, SETTINGS)[0], "the board said no", None)

    for name in ("ada", "bea"):
        limit(federation, name, approval="plan")
    wait_with(federation, refuse)
    with pytest.raises(JobError, match="ada: ada refused the plan triage: the board said no"):
        federation.run()


def test_a_plan_that_waits_for_approval_is_not_exchanged_for_another(federation: Federation) -> None:
    """To have a plan approved that nobody read: it takes the place of the one that a person looked at, between look and approval."""

    def approved(script: Script) -> tuple[bool, str]:
        """Whether what was approved is what was read, and what the second request was answered with."""
        ledger = federation.nodes["ada"].ledger
        ask = partial(script.ask, "ada", Subject(0, "run", 0), "query.hello")
        ask({"plan": federation.plan.canonical()})
        (read,) = waiting_plans(ledger, SETTINGS)
        refusal = ask({"plan": other.canonical()}).refusal
        decide(ledger, waiting_plans(ledger, SETTINGS)[-1], "", None)
        return waiting_plans(ledger, SETTINGS)[-1].summary.plan == read.summary.plan, refusal

    def exchanged(self: AcceptedPlans, run: str, plan: bytes) -> None:
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO pending VALUES (?, ?, ?)", (run, plan, self._now()))

    limit(federation, "ada", approval="plan")
    other = federation.plan.model_copy(update={"rounds": 900})
    with weakened("client.accepted.AcceptedPlans.keep_pending", by=exchanged):
        assert not approved(Script(federation, "r1", greet=False))[0]
    federation.nodes["ada"].ledger.accepted.keep_acceptance("r1", b"")
    same, refusal = approved(Script(federation, "r2", greet=False))
    assert same and refusal.startswith("run r2 waits here with another plan")


@pytest.mark.parametrize("stricter", [{"plans": ("other",)}, {"fields": ("code",)}, {"min_institutions": 5}, {"colluding": 2}])
def test_a_stricter_policy_holds_from_the_next_sum_on(tmp_path: Path, stricter: dict[str, Any]) -> None:
    """To go on under a policy that is no more: who has accepted is asked for sums of the epoch that goes on, and never greeted again."""

    def trained(directory: Path) -> list[int]:
        federation = Federation(directory, make_plan(trainable={"lora_rank": 2, "targets": ["attention"], "experts": "none"}))

        def tighten(event: Event) -> None:
            if isinstance(event, RoundFinished) and event.round == 1:
                limit(federation, "ada", **stricter)

        federation.run(tighten)
        federation.close()
        return federation.works["ada"].trainings

    with weakened("client.sums.check_plan", "client.sums.check_fields", "client.sums.check_cohort"):
        assert trained(tmp_path / "twin") == [1, 2]
    assert trained(tmp_path / "real") == [1]


def test_an_approval_of_another_plan_is_none(federation: Federation) -> None:
    limit(federation, "ada", approval="plan")
    decision = Decision(plan_sha256="ab" * 32, accepted=True)

    def approve_another(event: Event) -> None:
        Decisions(federation.nodes["ada"].ledger.home).decide(only_run(federation), decision)

    result = federation.run(approve_another)
    assert not federation.registry.answers(result.run)[0].accepted


def test_who_withdraws_is_in_no_later_round_and_the_run_goes_on(tmp_path: Path) -> None:
    plan = make_plan(rounds=3, trainable={"lora_rank": 2, "targets": ["attention"], "experts": "none"})
    federation = Federation(tmp_path, plan)

    def leave(event: Event) -> None:
        if isinstance(event, RoundFinished) and event.round == 1:
            node = federation.nodes["ada"]
            withdraw(node.ledger, node.identity, runs_to_leave(node.ledger, node.name, ""), "we changed our minds")

    result = federation.run(leave)
    assert [row.missing for row in federation.registry.rounds(result.run)] == [(), (), ("ada",), ("ada",)]
    assert federation.works["ada"].trainings == [1]
    federation.close()
