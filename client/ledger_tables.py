"""The ledger's tables, and what brings those of an earlier version up to date."""

from __future__ import annotations

import sqlite3

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, plan BLOB NOT NULL, accepted_at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, request BLOB NOT NULL, reply BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS evidence (id INTEGER PRIMARY KEY, key TEXT NOT NULL, request BLOB NOT NULL, earlier BLOB NOT NULL,
  at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS challenges (transcript BLOB PRIMARY KEY, chunks BLOB NOT NULL, committed BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS proofs (id INTEGER PRIMARY KEY, run TEXT NOT NULL, proof BLOB NOT NULL, at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS epochs (run TEXT, epoch INTEGER, manifest BLOB NOT NULL, stage TEXT NOT NULL, state BLOB NOT NULL,
  PRIMARY KEY (run, epoch)) STRICT;
CREATE TABLE IF NOT EXISTS claims (claim TEXT PRIMARY KEY, value BLOB NOT NULL, request BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS positions (run TEXT PRIMARY KEY, state_hash BLOB NOT NULL, transcript BLOB NOT NULL,
  finished INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS survivors (epoch_hash BLOB PRIMARY KEY, members TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS sums (run TEXT, round INTEGER, sum TEXT, transcript BLOB NOT NULL, state_hash BLOB NOT NULL,
  institutions INTEGER NOT NULL, at TEXT NOT NULL, PRIMARY KEY (run, round, sum)) STRICT;
CREATE TABLE IF NOT EXISTS transcripts (hash BLOB PRIMARY KEY, transcript BLOB NOT NULL) STRICT;
"""

VERSION = 5  # from 2 on, tables of what private runs spend; from 4 on, of what was accepted in writing, or waits; from 5, of restored runs
COUNTED = 2  # from this version on, promises are counted beside the database, and every sum has its transcript
# From the first version on: arrays are no longer stored with an answer, and what bound a promise is kept with it.
_UPGRADES = (
    "ALTER TABLE replies DROP COLUMN arrays",
    "ALTER TABLE claims ADD COLUMN request BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE evidence ADD COLUMN earlier BLOB NOT NULL DEFAULT x''",
)
# Sums up to this row may have been finished before transcripts were kept; every later one has its own.
BEFORE_TRANSCRIPTS = "sums before transcripts"
_MARK = f"INSERT INTO meta SELECT '{BEFORE_TRANSCRIPTS}', CAST(coalesce(max(rowid), 0) AS TEXT) FROM sums;"  # noqa: S608 (a constant)


def version_of(database: sqlite3.Connection) -> int:
    """0 before the tables are made, and for the first version."""
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def make_tables(database: sqlite3.Connection, tables: str) -> None:
    """Makes what is missing; all of it in one transaction, so that a process that dies in here leaves the former version."""
    if version_of(database) == VERSION:
        return
    exists = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'replies'").fetchone()
    upgrades, mark = (";\n".join(_UPGRADES) + ";\n", _MARK) if exists and version_of(database) < COUNTED else ("", "")
    database.executescript(f"BEGIN IMMEDIATE;\n{upgrades}{tables}\n{mark}\nPRAGMA user_version = {VERSION};\nCOMMIT;")
