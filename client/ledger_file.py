"""The ledger's database file: opened by its one writer or looked at, and never another one than the institution used last."""

from __future__ import annotations

import re
import secrets
import sqlite3
from pathlib import Path
from urllib.parse import quote

from client.errors import LedgerError
from client.ledger_tables import COUNTED, VERSION, make_tables, version_of
from protocols.files import write_file

PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "busy_timeout = 10000")
_NUMBER, _MOST_BYTES = re.compile(r"[0-9]{1,18}"), 1000


def open_database(home: Path, tables: str) -> sqlite3.Connection:
    """The database in `home` for its writer, made on first use.

    Raises:
        LedgerError: it cannot be opened.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = home / "ledger.db"
    try:
        path.touch(mode=0o600)
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in PRAGMAS:
            database.execute(f"PRAGMA {pragma}")
        _begin_promises(database, home)  # before the version changes: a process that dies in between does it again
        make_tables(database, tables)
    except (OSError, sqlite3.DatabaseError) as error:
        raise LedgerError(f"{path}: the ledger cannot be opened ({error}); check the disk, or restore the institution's home") from None
    return database


def look_at_database(home: Path) -> sqlite3.Connection:
    """The database in `home` for reading alone: no file is made or changed.

    Raises:
        LedgerError: there is none, it is damaged, or an older version wrote it.
    """
    path = home / "ledger.db"
    if not path.is_file():
        raise LedgerError(f"there is no ledger at {path}; name the institution's folder with --institution")
    # Even a reader leaves files beside a database with a write-ahead log, unless the database is said not to change.
    live = path.with_name("ledger.db-wal").exists()
    try:
        database = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro{'' if live else '&immutable=1'}", uri=True)
        database.text_factory = lambda text: text.decode(errors="replace")  # what is no text is then told as a row that is wrong
        found = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"{path}: the ledger cannot be read ({error}); restore the institution's home") from None
    if not {"meta", "heads", "transcripts"} <= found or version_of(database) != VERSION:
        raise LedgerError(f"{path}: no ledger of this version; a node of this version brings it up to date when it starts")
    return database


def begin_incarnation(database: sqlite3.Connection, home: Path) -> None:
    """Numbers a new ledger and writes the file beside it; an existing one stays as it is.

    An identifier without an incarnation is left by a process that died in here, before anything was answered.
    """
    outside, rows = home / "incarnation", dict(database.execute("SELECT name, value FROM meta"))
    if not rows and not outside.exists():
        rows = {"identifier": secrets.token_hex(16)}
        database.execute("INSERT INTO meta VALUES ('identifier', ?)", (rows["identifier"],))
    if "identifier" not in rows or "incarnation" in rows:
        return
    if not outside.exists():
        write_file(outside, f"{rows['identifier']} 1\n".encode(), mode=0o600)
    database.execute("INSERT INTO meta VALUES ('incarnation', '1')")


def checked_incarnation(database: sqlite3.Connection, home: Path) -> int:
    """The ledger's incarnation, which a file outside the database must confirm: a copied or restored database is not taken for this one.

    Raises:
        LedgerError: they do not belong together.
    """
    outside, rows = home / "incarnation", dict(database.execute("SELECT name, value FROM meta"))
    number = rows.get("incarnation", "")
    if not outside.exists() or _words(outside) != [rows.get("identifier"), number] or not _NUMBER.fullmatch(number):
        raise LedgerError(f"{home}: ledger and incarnation file do not belong together; a restored ledger must not be used to answer")
    return int(number)


def begin_next_incarnation(database: sqlite3.Connection, home: Path, at_least: int) -> int:
    """Gives a ledger that was put back another incarnation than any before, here or in its backup, and writes the files beside it."""
    rows = dict(database.execute("SELECT name, value FROM meta"))
    if not _NUMBER.fullmatch(rows.get("incarnation", "")) or "identifier" not in rows:
        raise LedgerError(f"{home}: the ledger has no incarnation; it is no backup that `consortium client backup` made")
    number = max(int(rows["incarnation"]) + 1, at_least)
    database.execute("UPDATE meta SET value = ? WHERE name = 'incarnation'", (str(number),))
    note_promises(database, home)
    write_file(home / "incarnation", f"{rows['identifier']} {number}\n".encode(), mode=0o600)
    return number


def note_promises(database: sqlite3.Connection, home: Path) -> None:
    """Writes beside the database how many promises are in it, before any that is new is acted upon."""
    write_file(home / "promises", b"%d\n" % _promises(database), mode=0o600)


def check_promises(database: sqlite3.Connection, home: Path) -> None:
    """Whether the database holds every promise that was made; one that was put back from a copy would make others.

    Raises:
        LedgerError: it holds fewer, or the file beside it that counts them is missing or not a number.
    """
    path = home / "promises"  # read first: a node at work adds to both, to the database before the file
    made = _words(path) if path.exists() else ["0"]
    kept = _promises(database)
    if kept and not path.exists():
        raise LedgerError(
            f"{path} is missing and the ledger holds {kept} promises; it may be an older copy: restore the whole home as the node left it"
        )
    if len(made) != 1 or not _NUMBER.fullmatch(made[0]):
        raise LedgerError(f"{path} is not the number of promises that were made; restore the whole home as the node left it")
    if kept < int(made[0]):
        raise LedgerError(
            f"{home}: the ledger holds {kept} promises of {made[0]} that were made; it is an older copy, and must not be used to answer"
        )


def _begin_promises(database: sqlite3.Connection, home: Path) -> None:
    """Counts the promises of a ledger that has none yet, or is of the first versions, which did not count; any other must have the file."""
    database.execute("BEGIN IMMEDIATE")  # no other process makes one between count and file
    tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    is_uncounted = "claims" not in tables or version_of(database) < COUNTED or not _promises(database)
    try:
        if is_uncounted and not (home / "promises").exists():
            write_file(home / "promises", b"%d\n" % (_promises(database) if "claims" in tables else 0), mode=0o600)
    finally:
        database.execute("ROLLBACK")


def _words(path: Path) -> list[str]:
    """What a small file beside the database says; bytes that are no text become words that match nothing."""
    return path.read_bytes()[:_MOST_BYTES].decode(errors="replace").split()


def _promises(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT count(*) FROM claims").fetchone()[0])
