"""What all tables share. Times are UTC with microseconds; hashes are hexadecimal text; enums are stored by value."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    MetaData,
    TypeDecorator,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.orm import DeclarativeBase

from coordinator.registry.states import JoinState, RunState, WantedState

# Named constraints, so that a migration can drop them on every database.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite drops the zone, which is put back when a row is read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times in the registry carry a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _by_value(states: type[Enum]) -> EnumType:
    # Plain text with a check: a native enum of PostgreSQL cannot lose a value again, and SQLite has none.
    names = {"values_callable": lambda members: [member.value for member in members], "native_enum": False}
    return EnumType(states, name=states.__name__.lower(), length=16, create_constraint=True, **names)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        RunState: _by_value(RunState),
        WantedState: _by_value(WantedState),
        JoinState: _by_value(JoinState),
    }
