"""One method, one transaction: it is repeated when the database aborts it, and written whole, its events included, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from coordinator.errors import LeaseLost, RegistryError
from coordinator.registry import event_chain
from coordinator.registry.retrying import Patience, is_disk_full, is_outage, persist
from coordinator.registry.tables import LeaseRow
from protocols.chain import ChainHead

Clock = Callable[[], datetime]  # aware
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Change:
    """A transaction that writes, after it has the lock of the chain's head: no other writer is inside."""

    session: Session
    now: datetime
    head: ChainHead | None = None  # after the last event that this change appended

    def append(self, kind: str, run: str | None, body: Mapping[str, Any]) -> ChainHead:
        """Adds the event of what was changed; `body` holds no secret and no record."""
        self.session.flush()
        self.head = event_chain.append(self.session, kind, run, self.now, body)
        return self.head


@dataclass(frozen=True, slots=True)
class Fence:
    """A held lease and its number; writes that carry it are refused once another owner has taken the lease."""

    name: str
    number: int

    def check(self, session: Session) -> None:
        """Raises LeaseLost unless the number is the lease's present one."""
        row = session.get(LeaseRow, self.name)
        if row is None or not row.owner or row.fence != self.number:
            raise LeaseLost(f"{self.name} was taken over from this process (number {self.number}); it writes no more, end it")


@dataclass(frozen=True, slots=True)
class _Unconfirmed(Generic[T]):
    """What a change returned, before its commit was answered."""

    head: ChainHead
    result: T


class Transactions:
    """Reading and writing for the classes by noun that `Registry` is made of."""

    def __init__(self, engine: Engine, clock: Clock, patience: Patience | None = None, fence: Fence | None = None) -> None:
        self._engine = engine
        self._clock = clock
        self._patience = patience or Patience()
        self._fence = fence

    def read(self, look: Callable[[Session], T]) -> T:
        """What `look` returns, from one state of the database.

        Raises:
            RegistryError: the database is damaged, or away for longer than the patience.
        """
        options = {"isolation_level": "REPEATABLE READ"} if self._engine.dialect.name == "postgresql" else {}

        def attempt() -> T:
            with Session(self._engine.execution_options(**options)) as session:
                return look(session)

        try:
            return persist(attempt, self._patience)
        except DBAPIError as error:
            raise _sentence(error, "read") from None

    def write(self, change: Callable[[Change], T]) -> T:
        """What `change` returns, after everything it did is committed.

        A commit whose answer was lost is not repeated: the hash of its last event says whether it was written.

        Raises:
            LeaseLost: the fence of this view was passed on.
            RegistryError: the database refuses the change, is damaged, or away for longer than the patience.
        """
        unconfirmed: _Unconfirmed[T] | None = None

        def attempt() -> T:
            nonlocal unconfirmed
            with self._writing() as session:
                if unconfirmed is not None and event_chain.holds(session, unconfirmed.head):
                    return unconfirmed.result
                if self._fence is not None:
                    self._fence.check(session)
                transaction = Change(session, self._clock())
                result = change(transaction)
                unconfirmed = _Unconfirmed(transaction.head, result) if transaction.head is not None else None
            return result

        try:
            return persist(attempt, self._patience)
        except DBAPIError as error:
            raise _sentence(error, "written") from None

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with Session(self._engine.execution_options(writes=True)) as session, session.begin():
            event_chain.lock(session)
            yield session


S = TypeVar("S", bound=Transactions)


def writes(method: Callable[Concatenate[S, Change, P], T]) -> Callable[Concatenate[S, P], T]:
    """Runs a method inside a transaction, which it finds as its first argument and its callers do not give."""

    @wraps(method)
    def whole(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.write(lambda change: method(self, change, *args, **kwargs))

    return whole


def reads(method: Callable[Concatenate[S, Session, P], T]) -> Callable[Concatenate[S, P], T]:
    """Runs a method that only looks; as with `writes`, callers do not give the session."""

    @wraps(method)
    def whole(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.read(lambda session: method(self, session, *args, **kwargs))

    return whole


def _sentence(error: DBAPIError, done: str) -> RegistryError:
    """Without the driver's text, which repeats what was to be written."""
    remedy = "start the database, or try again" if is_outage(error) else "restore a backup, or try again"
    if is_disk_full(error):
        remedy = "free space on the database's disk; nothing was written"
    if isinstance(error, IntegrityError | DataError):
        remedy = "the change contradicts what is there, or does not fit"
    return RegistryError(f"the registry cannot be {done} ({type(error.orig).__name__}); {remedy}")
