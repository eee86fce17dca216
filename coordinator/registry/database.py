"""Opening a database: SQLite by path with durable settings, anything else by SQLAlchemy URL; then its migrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from coordinator.errors import RegistryError

MIGRATIONS = Path(__file__).parent / "migrations"


def open_engine(location: str, create: bool) -> Engine:
    """An engine for a SQLite path or a URL, with its schema up to date.

    Raises:
        RegistryError: there is no such registry (and `create` is false), it cannot be opened, or a newer version wrote it.
    """
    url = location if "://" in location else f"sqlite:///{location}"
    _check_file(url, create)
    try:
        engine = _engine(url)
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            migrate(connection)
    except (ArgumentError, NoSuchModuleError):
        raise RegistryError(
            f"{_shown(url)} is not a database URL that is understood; give a path, or sqlite:/// or postgresql:// ..."
        ) from None
    except DatabaseError as error:
        raise RegistryError(
            f"{_shown(url)} cannot be opened as a registry: {str(error.orig).splitlines()[0]}; check path and rights"
        ) from None
    return engine


def migrate(connection: Connection) -> None:
    """Brings the schema to the newest revision, inside the connection's transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    present = MigrationContext.configure(connection).get_current_revision()
    if present == script.get_current_head():
        return
    if present is not None and present not in {revision.revision for revision in script.walk_revisions()}:
        raise RegistryError(f"this registry has schema {present}, which this version does not know; install the version that wrote it")
    command.upgrade(config, "head")


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed)
    # One connection must be shared in memory, where every new one would be another, empty database.
    options: dict[str, Any] = {"poolclass": StaticPool} if parsed.database in (None, "", ":memory:") else {}
    engine = create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False}, **options)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Python's driver would begin transactions late and commit before DDL; with None it does neither, and `_begin_sqlite` begins.
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock before it reads: two jobs may not read the same chain head and both extend it.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check_file(url: str, create: bool) -> None:
    if create or not url.startswith("sqlite:///") or url == "sqlite:///:memory:":
        return
    path = Path(url.removeprefix("sqlite:///"))
    if not path.is_file():
        raise RegistryError(
            f"there is no registry at {path}; name one with --registry, for example --registry OUT/registry.db of a simulation"
        )


def _shown(url: str) -> str:
    """The location without a password."""
    try:
        return make_url(url).render_as_string(hide_password=True).removeprefix("sqlite:///")
    except ArgumentError:
        return "the location given"
