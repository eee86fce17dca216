"""Runs: submitted, moved through their states, obeying what the operator wants."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import RegistryError
from coordinator.registry.bodies import run_body
from coordinator.registry.conversion import run_of
from coordinator.registry.reading import read_rows
from coordinator.registry.records import NewRun, Run
from coordinator.registry.states import RunState, WantedState, check_transition
from coordinator.registry.tables import RunRow
from coordinator.registry.transactions import Change, Transactions, reads, writes

_NAMED = 8  # of several runs that begin alike, the latest


class Runs(Transactions):
    """Where each run is."""

    @writes
    def create_run(self, change: Change, new: NewRun, token: bytes) -> Run:
        """Writes a submitted run. Its id is the plan's name and `token`: random bytes, so that no other registry has the same id."""
        row = RunRow(
            run=f"{new.plan_name}-{token.hex()}",
            plan=new.plan,
            state=RunState.SUBMITTED,
            wanted=WantedState.RUNNING,
            reason="",
            created_at=change.now,
            **run_body(new),
        )
        change.session.add(row)
        change.append("run-submitted", row.run, run_body(new))
        return run_of(row)

    @reads
    def find_run(self, session: Session, plan_sha256: str, seed: int) -> Run | None:
        """The latest run of a plan and seed, ended or not."""
        query = select(RunRow).where(RunRow.plan_sha256 == plan_sha256, RunRow.seed == seed).order_by(RunRow.id.desc()).limit(1)
        return next(iter(read_rows(session, query, run_of)), None)

    @reads
    def run(self, session: Session, run: str) -> Run:
        """A run by its id, or by the beginning of it if that fits one run alone."""
        (found,) = read_rows(session, select(RunRow).where(RunRow.id == run_id(session, run)), run_of)
        return found

    @reads
    def runs(self, session: Session) -> tuple[Run, ...]:
        """All runs, the oldest first."""
        return read_rows(session, select(RunRow).order_by(RunRow.id), run_of)

    @reads
    def run_names(self, session: Session) -> tuple[str, ...]:
        """Ids of all runs, the oldest first, whatever else their rows hold."""
        return tuple(str(name) for name in session.scalars(select(RunRow.run).order_by(RunRow.id)))

    @writes
    def set_state(self, change: Change, run: str, state: RunState, reason: str = "") -> Run:
        """Moves a run on; a failure gives its reason.

        Raises:
            IllegalTransition: its present state does not lead there.
        """
        if state is RunState.FAILED and not reason:
            raise RegistryError(f"run {run} cannot be marked failed without a reason; say in a sentence what went wrong")
        row = run_row(change.session, run)
        check_transition(row.run, row.state, state)
        row.state, row.reason = state, reason
        row.ended_at = change.now if state.ended else None
        change.append("run-state", row.run, {"state": state.value, "reason": reason})
        return run_of(row)

    @writes
    def set_wanted(self, change: Change, run: str, wanted: WantedState, instead_of: WantedState | None = None) -> Run:
        """Says where the operator wants a run to be, which its job obeys; nothing is said if it is no longer wanted `instead_of`."""
        row = living_run(change.session, run)
        if instead_of is not None and row.wanted is not instead_of:
            return run_of(row)
        row.wanted = wanted
        change.append("run-wanted", row.run, {"wanted": wanted.value})
        return run_of(row)


def run_row(session: Session, run: str) -> RunRow:
    """The row of a run, named as in `Runs.run`."""
    return session.get_one(RunRow, run_id(session, run))


def living_run(session: Session, run: str) -> RunRow:
    """As `run_row`; raises RegistryError if the run ended."""
    row = run_row(session, run)
    if row.state.ended:
        raise RegistryError(f"run {row.run} is {row.state.value} and obeys no more; submit the plan as a new run")
    return row


def run_id(session: Session, run: str) -> int:
    """The key of a run's row; raises RegistryError unless one run alone has this id or beginning."""
    exact = session.scalars(select(RunRow.id).where(RunRow.run == run)).first()
    if exact is not None:
        return exact
    like = RunRow.run.startswith(run, autoescape=True)
    found = session.scalars(select(RunRow).where(like).order_by(RunRow.id.desc()).limit(_NAMED + 1)).all() if run else []
    if len(found) == 1:
        return found[0].id
    if not found:
        raise RegistryError(f"there is no run {run!r}; `consortium coordinator runs` lists them")
    named = ", ".join(f"{row.run} ({row.state.value})" for row in found[:_NAMED])
    more = ", …" if len(found) > _NAMED else ""
    raise RegistryError(f"more than one run begins with {run!r}: {named}{more}; give one of these ids")
