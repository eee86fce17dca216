"""Opening a database, SQLite by path with durable settings or any by SQLAlchemy URL, and its migrations unless it is only read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

MIGRATIONS = Path(__file__).parent / "migrations"
FIRST_TABLES = {"events", "runs", "rounds", "participants"}  # those of every schema
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
    with explained(location):
        url = url_of(location)
        return _reading_engine(url) if read_only else _writing_engine(url)


def url_of(location: str) -> URL:
    """The URL of a SQLite path, or of a URL."""
    return make_url(location) if "://" in location else URL.create("sqlite", database=location)


@contextmanager
def explained(location: str) -> Iterator[None]:
    """Raises RegistryError for what goes wrong while a registry is opened; a password of the location is not repeated."""
    try:
        yield
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


def migrate(connection: Connection, revision: str = "head") -> None:
    """Brings the schema to a revision, the newest if none is named, inside the connection's transaction.

    Raises:
        RegistryError: this version does not know the registry's revision, or the one that is named.
    """
    config = Config()
    config.attributes["connection"] = connection
    script = script_of(config)
    if connection.dialect.name == "postgresql":  # two processes may open a new registry at once; SQLite's writer has its lock
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    present, known = revision_of(connection), [one.revision for one in script.walk_revisions()]
    if present is not None and present not in known:
        raise RegistryError(f"this registry has schema {present}, which this version does not know; install the version that wrote it")
    wanted = known[0] if revision == "head" else revision
    if wanted not in known:
        raise RegistryError(f"there is no schema {wanted}; this version knows {known[-1]} to {known[0]}")
    if present is None or present < wanted:
        command.upgrade(config, wanted)
    elif present > wanted:
        command.downgrade(config, wanted)


def revision_of(connection: Connection) -> str | None:
    """The schema's revision; None if there are no tables of ours."""
    return MigrationContext.configure(connection).get_current_revision()


def script_of(config: Config) -> ScriptDirectory:
    """The migrations, the newest first."""
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def _writing_engine(url: URL) -> Engine:
    with _ended_if_refused(engine_of(url)) as engine:
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            migrate(connection)
        return engine


def _reading_engine(url: URL) -> Engine:
    shown = _shown(url.render_as_string()) if url.get_backend_name() != "sqlite" else url.database
    with _ended_if_refused(reading_engine_of(url)) as engine:
        with engine.connect() as connection:
            _check_schema(connection, shown)
        return engine


@contextmanager
def _ended_if_refused(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    except BaseException:
        engine.dispose()
        raise


def reading_engine_of(url: URL) -> Engine:
    """An engine that makes no file, whatever schema is there; raises RegistryError where there is no file."""
    is_file = url.get_backend_name() == "sqlite" and not _in_memory(url)
    return create_engine(_read_only_file(Path(url.database or ""))) if is_file else engine_of(url)


def _read_only_file(path: Path) -> URL:
    if path.is_dir():
        raise RegistryError(f"{path} is a folder; did you mean {path / 'registry.db'}?")
    if not path.is_file():
        raise RegistryError(
            f"there is no registry at {path}; name the operator's folder with --home, or a registry with --registry, "
            "for example --registry OUT/registry.db of a simulation"
        )
    # Even a read-only connection leaves -wal and -shm files, unless the file is said not to change: true while nobody has it open.
    live = any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-journal"))
    how = {"mode": "ro"} if live else {"mode": "ro", "immutable": "1"}
    return URL.create("sqlite", database=f"file:{quote(str(path.resolve()))}", query={**how, "uri": "true"})


def _check_schema(connection: Connection, shown: str | None) -> None:
    present, known = revision_of(connection), [one.revision for one in script_of(Config()).walk_revisions()]
    if present is None or not set(inspect(connection).get_table_names()) >= FIRST_TABLES:
        raise RegistryError(f"{shown} is no registry: it lacks the tables of one; name another with --registry")
    if present != known[0]:
        upgrade = "stop its coordinator and run `consortium coordinator db upgrade`"
        remedy = upgrade if present in known else "install the version that wrote it"
        raise RegistryError(f"{shown} has schema {present} and this version reads {known[0]}; {remedy}")


def engine_of(url: URL) -> Engine:
    """An engine that may write, with durable settings; the schema is left as it is."""
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
