"""Rows read as records: one that was changed by hand is named in a sentence, instead of breaking its reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Select, inspect, select
from sqlalchemy.orm import Session

from coordinator.errors import ChainBroken
from coordinator.registry.tables import Base

R = TypeVar("R", bound=Base)
T = TypeVar("T")
CHANGED = "the registry was changed, restore a backup"
UNREADABLE = (ChainBroken, ValueError, TypeError, AttributeError, LookupError, RecursionError)  # of columns' types and of `convert`


def read_rows(session: Session, query: Select[R], convert: Callable[[R], T], instead: Callable[[int], T] | None = None) -> tuple[T, ...]:
    """The records of all rows that `query` finds, in its order.

    Args:
        instead: makes a record for the key of a row that is not readable, where others are wanted all the same.

    Raises:
        ChainBroken: naming the first row that holds what was never written there.
    """
    try:
        return tuple(_converted(row, convert) for row in session.scalars(query))
    except UNREADABLE:
        session.expunge_all()
    table: type[R] = query.column_descriptions[0]["entity"]
    (key,) = inspect(table).primary_key
    return tuple(_read_one(session, table, number, convert, instead) for number in session.scalars(query.with_only_columns(key)).all())


def _read_one(session: Session, table: type[R], number: int, convert: Callable[[R], T], instead: Callable[[int], T] | None) -> T:
    """By a query of its own, so that the row that is not readable is known."""
    (key,) = inspect(table).primary_key
    try:
        return _converted(session.scalars(select(table).where(key == number)).one(), convert)
    except UNREADABLE as error:
        if instead is not None:
            return instead(number)
        if isinstance(error, ChainBroken):
            raise
        raise ChainBroken(f"row {number} of `{table.__tablename__}` is not readable; {CHANGED}") from None


def _converted(row: R, convert: Callable[[R], T]) -> T:
    check_types(row)
    return convert(row)


def check_types(row: Base) -> None:
    """Raises ChainBroken if a value is not of its column's type; SQLite takes any."""
    for column in row.__table__.columns:
        value, expected = getattr(row, column.key), column.type.python_type
        if not (column.nullable if value is None else isinstance(value, (expected, int) if expected is float else expected)):
            (number,) = (getattr(row, key.key) for key in row.__table__.primary_key)
            raise ChainBroken(f"row {number} of `{row.__tablename__}`: {column.name} is no value of its kind; {CHANGED}")
