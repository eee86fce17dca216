"""Opening a database, SQLite by path with durable settings or any by SQLAlchemy URL, and its migrations unless it is only read."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, func, inspect, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from coordinator.errors import RegistryError
from coordinator.registry.tables import Base

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_SECONDS = 5  # a writer waits so long for another before the transaction is tried anew
# No wait is without end: not for a server that does not answer, nor for a writer that hangs while it holds the chain's head.
POSTGRESQL_WAITS = {
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "options": f"-c lock_timeout={LOCK_SECONDS}s -c idle_in_transaction_session_timeout=60s",
}
MIGRATION_LOCK = 0x636F6E73  # an advisory lock's key in PostgreSQL: "cons"


def open_engine(location: str, read_only: bool) -> Engine:
    """An engine for a SQLite path or a URL: with its schema brought up to date, or as it is and never written.

    Raises:
        RegistryError: it cannot be opened or a newer version wrote it; with `read_only` also if there is no registry, or an older one.
    """
    try:
        url = make_url(location) if "://" in location else URL.create("sqlite", database=location)
        return _reading_engine(url) if read_only else _writing_engine(url)
    except (ArgumentError, NoSuchModuleError):
        raise RegistryError(
            f"{_shown(location)} is not a database URL that is understood; give a path, or sqlite:/// or postgresql:// ..."
        ) from None
    except ModuleNotFoundError as error:
        raise RegistryError(f"{_shown(location)} needs the Python package {error.name}; install consortium[postgresql]") from None
    except DBAPIError as error:
        raise RegistryError(
            f"{_shown(location)} cannot be opened as a registry: {str(error.orig).splitlines()[0]}; check path and rights"
        ) from None


def migrate(connection: Connection) -> None:
    """Brings the schema to the newest revision, inside the connection's transaction."""
    config = Config()
    config.attributes["connection"] = connection
    script = _script(config)
    if connection.dialect.name == "postgresql":  # two processes may open a new registry at once; SQLite's writer has its lock
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    present = MigrationContext.configure(connection).get_current_revision()
    if present == script.get_current_head():
        return
    if present is not None and present not in {revision.revision for revision in script.walk_revisions()}:
        raise RegistryError(f"this registry has schema {present}, which this version does not know; install the version that wrote it")
    command.upgrade(config, "head")


def _script(config: Config) -> ScriptDirectory:
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def _writing_engine(url: URL) -> Engine:
    engine = _engine(url)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        migrate(connection)
    return engine


def _reading_engine(url: URL) -> Engine:
    is_file = url.get_backend_name() == "sqlite" and not _in_memory(url)
    engine = create_engine(_read_only_file(Path(url.database or ""))) if is_file else _engine(url)
    with engine.connect() as connection:
        _check_schema(connection, url.database if is_file else _shown(url.render_as_string()))
    return engine


def _read_only_file(path: Path) -> URL:
    if path.is_dir():
        raise RegistryError(f"{path} is a folder; did you mean {path / 'registry.db'}?")
    if not path.is_file():
        raise RegistryError(
            f"there is no registry at {path}; name one with --registry, for example --registry OUT/registry.db of a simulation"
        )
    # Even a read-only connection leaves -wal and -shm files, unless the file is said not to change: true while nobody has it open.
    live = any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-journal"))
    how = {"mode": "ro"} if live else {"mode": "ro", "immutable": "1"}
    return URL.create("sqlite", database=f"file:{quote(str(path.resolve()))}", query={**how, "uri": "true"})


def _check_schema(connection: Connection, shown: str | None) -> None:
    present, newest = MigrationContext.configure(connection).get_current_revision(), _script(Config()).get_current_head()
    if present is None or not set(Base.metadata.tables) <= set(inspect(connection).get_table_names()):
        raise RegistryError(f"{shown} is no registry: it lacks the tables of one; name another with --registry")
    if present != newest:
        raise RegistryError(f"{shown} has schema {present} and this version reads {newest}; install the version that wrote it")


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        return _postgresql_engine(url)
    if url.get_backend_name() != "sqlite":
        raise RegistryError(f"{url.get_backend_name()} keeps no registry; give the path of a SQLite file, or postgresql:// ...")
    # One connection must be shared in memory, where every new one would be another, empty database.
    options: dict[str, Any] = {"poolclass": StaticPool} if _in_memory(url) else {}
    engine = create_engine(url, connect_args={"timeout": LOCK_SECONDS, "check_same_thread": False}, **options)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql_engine(url: URL) -> Engine:
    # SQLAlchemy's own default for postgresql:// is psycopg2; the extra `postgresql` installs its successor.
    driver = url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
    waits = {name: value for name, value in POSTGRESQL_WAITS.items() if name not in url.query}
    return create_engine(driver, connect_args=waits, pool_pre_ping=True)  # a connection of before a restart is made anew


def _in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Python's driver would begin transactions late and commit before DDL; with None it does neither, and `_begin_sqlite` begins.
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock before it reads: two jobs may not read the same chain head and both extend it.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _shown(location: str) -> str:
    """The location without a password, which may also stand in a URL's query."""
    try:
        return make_url(location).set(query={}).render_as_string() if "://" in location else location
    except ArgumentError:
        return "the location given"
