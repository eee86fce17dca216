"""A backup of a node's home: one file with the ledger, the states that runs stand at and people's decisions, and no secret of any epoch.

It is a tar archive. Keys, records and settings are not in it: an institution copies those apart, as it guards them.
"""

from __future__ import annotations

import io
import os
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath

from client.errors import BackupError
from client.ledger_file import look_at_database
from protocols.files import sync_directory, write_file

LEDGER = "ledger.db"
DECISIONS, STATES, PERSONAL = ("approvals", "withdrawals"), "states", "personal"
FOLDERS = (*DECISIONS, STATES, PERSONAL)
ATTEMPTS = 5  # a node at work may move on between its ledger and a state's file

# What a sum or a setup could be asked for again. Answers are left out with it: some hold shares.
SCRUB = """
UPDATE epochs SET stage = 'abandoned', state = x'' WHERE stage <> 'over';
DELETE FROM replies;
DELETE FROM vectors;
"""


def write_backup(home: Path, file: Path, with_personal: bool) -> None:
    """Writes the backup with mode 0600; the node may be at work.

    Args:
        with_personal: also what the institution keeps to itself between rounds (docs/personal.md), which tells of its records.

    Raises:
        BackupError: the file exists. LedgerError: there is no ledger, or it is damaged. OSError: it cannot be written; nothing is left.
    """
    if file.exists():
        raise BackupError(f"{file} exists, and a backup does not take another's place; name a new file")
    draft = file.with_name(f".{file.name}.draft")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            _write(home, target, with_personal)
            os.fsync(target.fileno())
        os.link(draft, file)
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(file.parent)


def unpack_backup(file: Path, folder: Path) -> None:
    """Writes what is in a backup into an empty folder.

    Raises:
        BackupError: it is no backup, or names what has no place in one.
    """
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                write_file(folder / member.name, _content_of(archive, member, file), mode=0o600)
    except (tarfile.TarError, EOFError):
        raise BackupError(f"{file} is no backup that `consortium client backup` made, or is damaged; take another") from None
    if not (folder / LEDGER).exists():
        raise BackupError(f"{file} holds no ledger; take another backup")


def _content_of(archive: tarfile.TarFile, member: tarfile.TarInfo, file: Path) -> bytes:
    content = archive.extractfile(member) if member.isreg() and _has_place(member.name) else None
    if content is None:
        raise BackupError(f"{file} holds {member.name[:100]!r}, which has no place in a backup; take another")
    return content.read()


def _write(home: Path, target: io.BufferedWriter, with_personal: bool) -> None:
    for _ in range(ATTEMPTS):
        target.seek(0)
        target.truncate()
        try:
            with tarfile.open(fileobj=target, mode="w") as archive:
                _add_all(home, archive, with_personal)
        except FileNotFoundError:
            continue
        return target.flush()
    raise BackupError(f"{home} changes faster than it can be copied; try again between two rounds")


def _add_all(home: Path, archive: tarfile.TarFile, with_personal: bool) -> None:
    ledger, states = _scrubbed(home)
    header = tarfile.TarInfo(LEDGER)
    header.size, header.mode = len(ledger), 0o600
    archive.addfile(header, io.BytesIO(ledger))
    for path in (*states, *_files(home, DECISIONS + ((PERSONAL,) if with_personal else ()))):
        archive.add(path, path.relative_to(home).as_posix(), recursive=False)


def _scrubbed(home: Path) -> tuple[bytes, list[Path]]:
    """The database without secrets, which never touch a disk on the way, and the files of the states that it names."""
    with closing(look_at_database(home)) as live, closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        live.backup(copy)
        copy.executescript(SCRUB + "VACUUM;")
        rows = copy.execute("SELECT run, state_hash FROM positions ORDER BY run").fetchall()
        return copy.serialize(), [home / STATES / run / f"{digest.hex()}.safetensors" for run, digest in rows]


def _files(home: Path, folders: tuple[str, ...]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted((home / folder).rglob("*")) if path.is_file() and not path.name.startswith("."))


def _has_place(name: str) -> bool:
    path = PurePosixPath(name)
    return name == LEDGER or (not path.is_absolute() and ".." not in path.parts and len(path.parts) > 1 and path.parts[0] in FOLDERS)
