"""A running plan: one secure sum after the other until the plan is done, the same in `simulate` and in a deployment.

Each sum ends in this order: state file, journal, transcript to the institutions, registry row. A process that dies in between
goes on from the journal; the institutions send their stored vectors again, so the result has the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from coordinator.attending import Attending
from coordinator.awaiting import await_answers
from coordinator.errors import JobError, RegistryError, RunStopped
from coordinator.events import Event, ExpertsChosen, RoundFinished, RunFailed, RunFinished, RunStarted
from coordinator.exchange import Exchange
from coordinator.lease import driving
from coordinator.link import Link
from coordinator.members import Members, OfferedRoster
from coordinator.registry.records import Contribution, Participant, Round, Run, Spent
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState
from coordinator.rounds import FinishedSum, RoundEngine
from coordinator.store import Journal, Part, RunStore
from coordinator.submission import new_run
from coordinator.waiting import Waiting
from protocols.errors import ConsortiumError, FlowerAway, FlowerRefused
from protocols.files import make_folder
from protocols.identity import Identity
from protocols.participation import members_of, too_small
from protocols.plan import Plan
from protocols.schedule import PlannedSum, planned_sums
from protocols.state import State
from protocols.terms import Adaptation, Terms

LEASE_SECONDS = 7 * 86400.0  # only a holder on another machine that died is waited for so long


# What ends a run's process and not the run: Flower, database or disk may be back when the next one goes on from the journal.
PASSING = (FlowerAway, FlowerRefused, RegistryError, OSError)


@dataclass(frozen=True, slots=True)
class Operator:
    """The coordinator's own means: its key, the roster that it offers now, and the edges of the process."""

    identity: Identity
    roster: OfferedRoster  # asked anew before every sum
    randomness: Callable[[int], bytes]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    patience: float | None = None  # seconds between looks whether missing institutions are back; None: a run with too few fails
    awaits_answers: bool = False  # of people at institutions; those of a simulation answer at once, and never otherwise


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run."""

    run: str
    state: State
    state_path: Path
    transcript_sha256: str
    threshold: int
    colluding: int


@dataclass(frozen=True, slots=True)
class _Job:
    run: str
    terms: Terms
    registry: Registry
    store: RunStore
    engine: RoundEngine
    operator: Operator
    on_event: Callable[[Event], None]

    @property
    def plan(self) -> Plan:
        return self.terms.plan

    @property
    def waiting(self) -> Waiting:
        return Waiting(self.run, self.registry, self.operator.sleep, self.on_event)


def ignore(event: Event) -> None:
    """Watches nothing."""


def run_plan(
    plan: Plan,
    exchange: Exchange,
    registry: Registry,
    *,
    adaptation: Adaptation,
    operator: Operator,
    directory: Path,
    on_event: Callable[[Event], None] = ignore,
) -> RunResult:
    """Runs a plan to its end, or goes on with the unfinished run of the same plan and seed.

    Args:
        plan: with `base.sha256` filled in.
        adaptation: `model.layout.Adaptation` of plan and base; the coordinator needs neither weights nor torch.
        directory: states and journal of runs, one folder each.

    Raises:
        ConsortiumError: the run failed or was stopped; the registry says so with the same sentence.
    """
    if not plan.base.sha256:
        raise JobError("base.sha256 of the plan is empty; fill in the checkpoint's hash, so that every institution trains the same base")
    run = _find_or_create(plan, registry, operator)
    make_folder(directory / run.run, 0o700)  # opened seeds and totals are for members
    store = RunStore(directory / run.run)
    terms = Terms(plan, adaptation, store.directory)
    members = Members(operator.roster, store.directory, operator.identity.public_key)
    attending = Attending(run.run, registry.patient(0.0), partial(store.is_between_sums, len(planned_sums(plan))))
    link = Link(exchange, operator.identity, members, run.run, plan.participation.deadline_seconds, store.outbox, attending, on_event)
    with driving(registry, run.run, LEASE_SECONDS) as own:
        engine = RoundEngine(terms, link, store, own, on_event)
        return _drive_or_record(_Job(run.run, terms, own, store, engine, operator, on_event), run)


def _drive_or_record(job: _Job, run: Run) -> RunResult:
    """Drives the run; whatever ends it early stands in the registry."""
    try:
        return _drive(job, run)
    except RunStopped as stopped:
        job.registry.set_state(run.run, RunState.STOPPED, str(stopped))
        raise
    except PASSING:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, ConsortiumError) else f"an unexpected {type(error).__name__} stopped the job; see its log"
        job.registry.set_state(run.run, RunState.FAILED, reason)
        job.on_event(RunFailed(run.run, reason))
        raise


def _find_or_create(plan: Plan, registry: Registry, operator: Operator) -> Run:
    found = registry.find_run(plan.sha256, plan.seed)
    if found is not None and not found.state.ended:
        return found
    _check_roster(plan, operator)
    return registry.create_run(new_run(plan), operator.randomness(4))


def _check_roster(plan: Plan, operator: Operator) -> None:
    if (fault := too_small(plan, len(operator.roster().entries))) is not None:
        raise JobError(f"the roster does not carry this plan: {fault}")


def _drive(job: _Job, run: Run) -> RunResult:
    planned = planned_sums(job.plan)
    _check_roster(job.plan, job.operator)  # again: somebody may have been revoked since the run was submitted
    _begin(job, run)
    _record_round(job, planned)
    while (done := job.store.journal.done) < len(planned):
        job.waiting.obey_operator()
        _advance_or_wait(job, planned[done])
        _record_round(job, planned)
    job.engine.tell_rest(current_state(job.terms, job.store))
    job.registry.set_state(job.run, RunState.FINISHED)
    job.on_event(RunFinished(job.run))
    return _result(job)


def _begin(job: _Job, run: Run) -> None:
    job.registry.record_participants([Participant(entry.name, entry.public_key.hex()) for entry in job.engine.link.roster.entries])
    if run.state is RunState.SUBMITTED:
        run = job.registry.set_state(job.run, RunState.ACCEPTING)
    if run.state is RunState.ACCEPTING:
        _await_answers(job)
        job.registry.set_state(job.run, RunState.RUNNING)
    rounds = job.registry.rounds(job.run)
    job.on_event(RunStarted(job.run, job.plan.rounds, rounds[-1].number if rounds else None))


def _await_answers(job: _Job) -> None:
    if job.operator.awaits_answers:
        seconds, obey = job.plan.participation.deadline_seconds, job.waiting.obey_operator
        await_answers(job.engine.cohort, seconds, obey, job.operator.clock, job.operator.sleep)


def _advance_or_wait(job: _Job, planned: PlannedSum) -> None:
    """Where too few take part, the run waits for them; without anyone who could come back it fails."""

    def lacking() -> str:
        return job.engine.lacking(planned, current_state(job.terms, job.store))

    job.waiting.until_done(partial(_advance, job, planned), lacking, job.operator.patience)


def _advance(job: _Job, planned: PlannedSum) -> None:
    """One sum: open its total, apply it, keep what came out, tell the institutions."""
    started = job.operator.clock()
    state = current_state(job.terms, job.store)
    finished = job.engine.run_sum(planned, state)
    _journal(job, finished, job.operator.clock() - started)
    if planned.kind == "experts":
        job.on_event(ExpertsChosen(finished.state.experts))
    job.engine.publish(finished)
    parts = _merged(job, finished)
    job.store.update(parts=parts)


def _journal(job: _Job, finished: FinishedSum, seconds: float) -> None:
    """The sum's outcome: files of its state and transcript first, then one replacement of the journal."""
    digest, journal, kind = job.store.keep_state(finished.state), job.store.journal, finished.planned.kind
    figures, transcript = finished.figures, finished.transcript.hash.hex()
    known = {name: value for name, value in (("loss", figures.loss), ("metric", figures.metric)) if value is not None}
    job.store.write(
        replace(
            journal,
            done=journal.done + 1,
            state_sha256=digest,
            transcript=transcript,
            last_sum=finished.record.folder.name,
            attempt=0,
            given_up=True,
            survivors=(),
            replaced=False,
            transcripts=journal.transcripts | {kind: transcript},
            figures={**journal.figures, **known, **figures.more},
            parts=_merged(job, finished),
            seconds=journal.seconds + seconds,
        )
    )


def current_state(terms: Terms, store: RunStore) -> State:
    """The state that the next sum starts from."""
    digest = store.journal.state_sha256
    return store.state(digest) if digest else terms.start()


def _merged(job: _Job, finished: FinishedSum) -> dict[str, Part]:
    """The round's parts with the traffic since the last call; every institution of the sum that is not in the set is missing.

    Who was not yet asked for a sum of the round, as its batch does not train now, has no part: greetings are not counted.
    """
    parts, traffic = job.store.journal.parts, job.engine.link.take_traffic()
    names = members_of(job.plan, job.engine.link.roster.names, finished.planned.round, finished.planned.kind)
    merged = dict(parts)
    for name in names:
        before, now = parts.get(name, Part()), traffic.get(name, Part())
        missing, reason = before.missing_from, before.reason
        if name not in finished.survivors and not missing:
            missing = now.missing_from or f"{finished.planned.kind} sum"
            reason = now.reason or f"it was not in the set that the {finished.planned.kind} sum is of"
        merged[name] = Part(before.bytes_up + now.bytes_up, before.bytes_down + now.bytes_down, missing, reason)
    return merged


def _record_round(job: _Job, planned: tuple[PlannedSum, ...]) -> None:
    """Writes the row of a round whose last sum is in the journal, unless an earlier process did; then makes room for the next."""
    journal = job.store.journal
    last = planned[journal.done - 1] if journal.done else None
    if last is None or not last.last_of_round or not journal.transcripts:
        return
    if last.round not in {finished.number for finished in job.registry.rounds(job.run)}:
        kinds = [one.kind for one in planned if one.round == last.round and one.kind in journal.transcripts]
        ordered = replace(journal, transcripts={kind: journal.transcripts[kind] for kind in kinds})  # JSON sorted them by name
        finished = _round_row(last.round, ordered, current_state(job.terms, job.store))
        row = job.registry.record_round(job.run, replace(finished, spent=_spent(job.plan, ordered)))
        figures = (row.loss, row.metric, row.seconds, row.bytes_up, row.bytes_down)
        job.on_event(RoundFinished(row.number, row.institutions, row.missing, *figures))
    job.store.update(transcripts={}, figures={}, parts={}, seconds=0.0)
    job.store.drop_uploads(before=last.round + 1 - job.plan.secure_aggregation.audit_rounds)


def _round_row(number: int, journal: Journal, state: State) -> Round:
    parts = tuple(Contribution(name, p.bytes_up, p.bytes_down, p.missing_from, p.reason) for name, p in sorted(journal.parts.items()))
    kept = state.pre_round.kept if state.pre_round is not None else None
    experts, more = state.experts if number == 0 else kept, dict(journal.figures)
    loss, metric = more.pop("loss", None), more.pop("metric", None)
    return Round(number, journal.state_sha256, journal.transcripts, parts, journal.seconds, loss, metric, experts, figures=more)


def _spent(plan: Plan, journal: Journal) -> tuple[Spent, ...]:
    """The whole run's epsilon from its first update on: how much of it a round costs follows from records that nobody here knows.

    An institution that was missing may have sent its update all the same.
    """
    if plan.privacy is None or "update" not in journal.transcripts:
        return ()
    return tuple(Spent(name, plan.privacy.epsilon, plan.privacy.delta) for name in sorted(journal.parts))


def _result(job: _Job) -> RunResult:
    journal = job.store.journal
    state = current_state(job.terms, job.store)
    path = job.store.state_path(journal.state_sha256)
    sums = job.plan.secure_aggregation
    return RunResult(job.run, state, path, journal.transcript, journal.threshold, sums.colluding)
