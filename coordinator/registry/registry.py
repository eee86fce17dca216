"""The registry: who took part, what was run, what came out; every change leaves an event in a hash chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from coordinator.errors import LeaseHeld, RegistryError
from coordinator.registry import event_chain
from coordinator.registry.bodies import model_version_body, participant_body, round_body, run_body
from coordinator.registry.conversion import event_of, model_version_of, participant_of, round_of, run_of, unreadable_event
from coordinator.registry.database import open_engine
from coordinator.registry.reading import read_rows
from coordinator.registry.records import Event, ModelVersion, NewRun, Participant, Round, Run
from coordinator.registry.states import RunState, WantedState, check_transition
from coordinator.registry.tables import (
    ContributionRow,
    EventRow,
    LeaseRow,
    ModelVersionRow,
    ParticipantRow,
    PrivacySpendRow,
    RoundRow,
    RunRow,
)
from protocols.chain import ChainHead

Clock = Callable[[], datetime]  # aware


class Registry:
    """Transactions over the registry's tables; a method changes everything it names, its event included, or nothing."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    @classmethod
    def open(cls, location: str, clock: Clock, *, read_only: bool = False) -> Self:
        """Opens a SQLite file by path, or any database by SQLAlchemy URL, and brings its schema up to date.

        With `read_only` nothing is made, migrated or written, and nothing but reading may be asked afterwards.

        Raises:
            RegistryError: nothing can be opened there; with `read_only` also if there is no registry of this version.
        """
        return cls(open_engine(location, read_only), clock)

    def close(self) -> None:
        """Ends the connections; the registry is not used afterwards."""
        self._engine.dispose()

    def create_run(self, new: NewRun, token: bytes) -> Run:
        """Writes a submitted run. Its id is the plan's name and `token`: random bytes, so that no other registry has the same id."""
        with self._writing() as session:
            row = RunRow(
                run=f"{new.plan_name}-{token.hex()}",
                plan=new.plan,
                state=RunState.SUBMITTED,
                wanted=WantedState.RUNNING,
                reason="",
                created_at=self._clock(),
                **run_body(new),
            )
            session.add(row)
            self._append(session, "run-submitted", row.run, run_body(new))
            return run_of(row)

    def find_run(self, plan_sha256: str, seed: int) -> Run | None:
        """The latest run of a plan and seed, ended or not."""
        query = select(RunRow).where(RunRow.plan_sha256 == plan_sha256, RunRow.seed == seed).order_by(RunRow.id.desc()).limit(1)
        with self._reading() as session:
            return next(iter(read_rows(session, query, run_of)), None)

    def run(self, run: str) -> Run:
        """A run by its id, or by the beginning of it if that fits one run alone."""
        with self._reading() as session:
            (found,) = read_rows(session, select(RunRow).where(RunRow.id == _run_id(session, run)), run_of)
            return found

    def runs(self) -> tuple[Run, ...]:
        """All runs, the oldest first."""
        with self._reading() as session:
            return read_rows(session, select(RunRow).order_by(RunRow.id), run_of)

    def run_names(self) -> tuple[str, ...]:
        """Ids of all runs, the oldest first, whatever else their rows hold."""
        with self._reading() as session:
            return tuple(str(name) for name in session.scalars(select(RunRow.run).order_by(RunRow.id)))

    def set_state(self, run: str, state: RunState, reason: str = "") -> Run:
        """Moves a run on; a failure gives its reason.

        Raises:
            IllegalTransition: its present state does not lead there.
        """
        if state is RunState.FAILED and not reason:
            raise RegistryError(f"run {run} cannot be marked failed without a reason; say in a sentence what went wrong")
        with self._writing() as session:
            row = _run_row(session, run)
            check_transition(row.run, row.state, state)
            row.state, row.reason = state, reason
            row.ended_at = self._clock() if state.ended else None
            self._append(session, "run-state", row.run, {"state": state.value, "reason": reason})
            return run_of(row)

    def set_wanted(self, run: str, wanted: WantedState) -> Run:
        """Says where the operator wants a run to be; its job reads this between sums."""
        with self._writing() as session:
            row = _run_row(session, run)
            if row.state.ended:
                raise RegistryError(f"run {row.run} is {row.state.value} and obeys no more; submit the plan as a new run")
            row.wanted = wanted
            self._append(session, "run-wanted", row.run, {"wanted": wanted.value})
            return run_of(row)

    def record_participants(self, participants: Sequence[Participant]) -> None:
        """Adds institutions that are not known yet.

        Raises:
            RegistryError: one is known with another key; nothing is added.
        """
        with self._writing() as session:
            for participant in participants:
                self._add_participant(session, participant)

    def participants(self) -> tuple[Participant, ...]:
        """All institutions by name."""
        with self._reading() as session:
            return read_rows(session, select(ParticipantRow).order_by(ParticipantRow.name), participant_of)

    def record_round(self, run: str, finished: Round) -> Round:
        """Writes a finished round, its contributions and its event; rounds come in order, 0 first.

        Raises:
            RegistryError: the run is not running, the round is not the next one, or an institution is unknown.
        """
        with self._writing() as session:
            run_row = _run_row(session, run)
            _check_next_round(session, run_row, finished.number)
            row = _round_row(session, run_row, finished, self._clock())
            session.add(row)
            session.flush()
            recorded = round_of(row)
            self._append(session, "round-finished", run_row.run, round_body(recorded))
            return recorded

    def rounds(self, run: str) -> tuple[Round, ...]:
        """The finished rounds of a run, in order."""
        with self._reading() as session:
            query = select(RoundRow).where(RoundRow.run_id == _run_id(session, run)).order_by(RoundRow.number)
            return read_rows(session, query, round_of)

    def add_model_version(self, version: ModelVersion) -> ModelVersion:
        """Writes the row of a released model, whose files are complete by then."""
        with self._writing() as session:
            run = _run_row(session, version.run)
            row = ModelVersionRow(run_id=run.id, run=run, released_at=self._clock(), **model_version_body(version))
            session.add(row)
            self._append(session, "model-released", run.run, model_version_body(version))
            return model_version_of(row)

    def model_versions(self, run: str | None = None) -> tuple[ModelVersion, ...]:
        """Released models of all runs, or of one."""
        query = select(ModelVersionRow).order_by(ModelVersionRow.name, ModelVersionRow.version)
        with self._reading() as session:
            if run is not None:
                query = query.where(ModelVersionRow.run_id == _run_id(session, run))
            return read_rows(session, query, model_version_of)

    def append_event(self, kind: str, run: str | None, body: Mapping[str, Any]) -> ChainHead:
        """Adds an event that belongs to no other change; `body` becomes canonical JSON and holds no secret and no record."""
        with self._writing() as session:
            return self._append(session, kind, run, body)

    def head(self) -> ChainHead:
        """Length and last hash of the event chain."""
        with self._reading() as session:
            return event_chain.head(session)

    def events(self, run: str | None = None, after: int = 0) -> tuple[Event, ...]:
        """Events of all runs, or of one, with a sequence number above `after`."""
        query = select(EventRow).where(EventRow.sequence > after).order_by(EventRow.sequence)
        if run is not None:
            query = query.where(EventRow.run == run)
        with self._reading() as session:
            return read_rows(session, query, event_of, unreadable_event)

    def digests(self, after: int, until: int) -> bytes:
        """One 32-byte digest for each event after the first `after`, up to number `until`: shows that one head extends another."""
        return event_chain.digests(event for event in self.events(after=after) if event.sequence <= until)

    def verify_chain(self) -> ChainHead:
        """Recomputes the whole event chain.

        Raises:
            ChainBroken: naming the first event that is not as it was written.
        """
        return event_chain.check(self.events())

    def take_lease(self, name: str, owner: str, seconds: float, gone: Callable[[str], bool] | None = None) -> None:
        """Takes or renews the lease on a run; `gone` says whether an owner is known to have ended without giving it back.

        Raises:
            LeaseHeld: another owner has it.
        """
        now = self._clock()
        with self._writing() as session:
            row = session.get(LeaseRow, name)
            held = row is not None and row.owner != owner and row.expires_at > now
            if row is not None and held and not (gone and gone(row.owner)):
                until = row.expires_at.isoformat(timespec="seconds")
                raise LeaseHeld(f"{name} is driven by {row.owner} until {until}; stop that process, or wait until then")
            session.merge(LeaseRow(name=name, owner=owner, expires_at=now + timedelta(seconds=seconds)))

    def release_lease(self, name: str, owner: str) -> None:
        """Gives a lease back; that of another owner stays."""
        with self._writing() as session:
            row = session.get(LeaseRow, name)
            if row is not None and row.owner == owner:
                session.delete(row)

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with Session(self._engine.execution_options(writes=True)) as session, session.begin():
            yield session

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        try:
            with Session(self._engine) as session:
                yield session
        except DatabaseError as error:
            raise RegistryError(f"the registry cannot be read ({type(error.orig).__name__}); restore a backup, or try again") from None

    def _append(self, session: Session, kind: str, run: str | None, body: Mapping[str, Any]) -> ChainHead:
        session.flush()
        return event_chain.append(session, kind, run, self._clock(), body)

    def _add_participant(self, session: Session, participant: Participant) -> None:
        row = session.scalars(select(ParticipantRow).where(ParticipantRow.name == participant.name)).first()
        if row is None:
            session.add(ParticipantRow(joined_at=self._clock(), **participant_body(participant)))
            self._append(session, "participant-joined", None, participant_body(participant))
        elif row.public_key != participant.public_key:
            raise RegistryError(f"institution {row.name} is registered with another key; a new key must be accepted as a rotation first")


def _run_row(session: Session, run: str) -> RunRow:
    return session.get_one(RunRow, _run_id(session, run))


def _run_id(session: Session, run: str) -> int:
    exact = session.scalars(select(RunRow.id).where(RunRow.run == run)).first()
    if exact is not None:
        return exact
    found = session.scalars(select(RunRow.id).where(RunRow.run.startswith(run, autoescape=True)).limit(2)).all() if run else []
    if len(found) == 1:
        return found[0]
    fault = "more than one run begins with" if found else "there is no run"
    raise RegistryError(f"{fault} {run!r}; `consortium coordinator runs` lists them")


def _check_next_round(session: Session, run: RunRow, number: int) -> None:
    if run.state not in (RunState.RUNNING, RunState.PAUSED):
        raise RegistryError(f"run {run.run} is {run.state.value}; only a running one records rounds")
    last = session.scalar(select(func.max(RoundRow.number)).where(RoundRow.run_id == run.id))
    expected = 0 if last is None else last + 1
    if number != expected:
        raise RegistryError(f"run {run.run} expects round {expected} next, not round {number}; rounds are recorded once and in order")


def _round_row(session: Session, run: RunRow, finished: Round, now: datetime) -> RoundRow:
    names = [*(part.institution for part in finished.contributions), *(one.institution for one in finished.spent)]
    known = {row.name: row for row in session.scalars(select(ParticipantRow).where(ParticipantRow.name.in_(names)))}
    unknown = sorted(set(names) - known.keys())
    if unknown:
        raise RegistryError(f"institution {unknown[0]} of round {finished.number} is not in the registry; record participants first")
    fields = round_body(finished)
    del fields["contributions"]
    fields["spent"] = [PrivacySpendRow(participant=known[s.institution], epsilon=s.epsilon, delta=s.delta) for s in finished.spent]
    parts = [
        ContributionRow(participant=known[p.institution], bytes_up=p.bytes_up, bytes_down=p.bytes_down, missing_from=p.missing_from)
        for p in finished.contributions
    ]
    return RoundRow(run_id=run.id, finished_at=now, contributions=parts, **fields)
