"""`consortium client ledger` and `consortium client ledger verify`: 0 is nothing wrong, 1 something wrong, 2 wrong use."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.institution import Membership
    from client.ledger import Ledger
    from client.ledger_rows import FinishedSum

InstitutionOption = Annotated[
    Path | None, typer.Option("--institution", metavar="FOLDER", help="The institution's folder; this one if left out.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
COLUMNS = ("run", "round", "sum", "institutions", "finished (UTC)", "transcript")

app = typer.Typer(help="List the finished sums of this institution's ledger, or verify it.")


@dataclass(frozen=True, slots=True)
class Options:
    """What was said before the name of a command holds for it too."""

    institution: Path | None
    as_json: bool


@app.callback(invoke_without_command=True)
def sums(context: typer.Context, institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """List the finished sums of this institution's ledger, or verify it."""
    context.obj = Options(institution, as_json)
    if context.invoked_subcommand is not None:
        return
    from client.spending import policy_of, spending

    with told(as_json), opened(institution or Path()) as (ledger, membership):
        finished, spent = ledger.finished_sums(), spending(ledger, policy_of(institution or Path()))
    if as_json:
        sums = [_document(one) for one in finished]
        print_json({"schema": 1, "institution": membership.name, "sums": sums, "privacy": spent.document()})
        return
    typer.echo("\n".join(table([COLUMNS, *(_row(one) for one in finished)])) if finished else f"{membership.name} has finished no sum yet")
    for line in spent.lines():
        typer.echo(line)


@app.command()
def verify(context: typer.Context, institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """Check signatures, transcripts, heads of the event chain and erasure; says what is proved, what is not, and what is evidence."""
    from client.evidence import read_evidence
    from client.verify import verify_ledger

    before: Options = context.obj
    as_json = as_json or before.as_json
    with told(as_json), opened(institution or before.institution or Path()) as (ledger, membership):
        audit, evidence = verify_ledger(ledger, membership), read_evidence(ledger, membership)
    if as_json:
        print_json({"schema": 1, "institution": membership.name, **audit.document(), "evidence": evidence})
    else:
        titled = ["Refused, and what it proves to others:", *(f"  - {sentence}" for sentence in evidence)] if evidence else []
        typer.echo("\n".join([*audit.lines(), *titled]))
    if not audit.ok:
        raise typer.Exit(1)


class WrongUse(Exception):
    """What was named is not what the command takes."""


@contextmanager
def told(as_json: bool) -> Iterator[None]:
    """An error is one sentence on standard error, or one JSON document on standard output."""
    from model.errors import ModelError
    from protocols.errors import ConsortiumError

    try:
        yield
    except (ConsortiumError, ModelError, WrongUse, OSError) as error:
        sentence = f"{error.filename}: {error.strerror}; check the path and its rights" if isinstance(error, OSError) else str(error)
        if as_json:
            print_json({"schema": 1, "ok": False, "error": sentence})
        else:
            typer.echo(sentence, err=True)
        raise typer.Exit(2 if isinstance(error, WrongUse) else 1) from None


@contextmanager
def opened(institution: Path) -> Iterator[tuple[Ledger, Membership]]:
    """The ledger of an institution's folder to read from, and the institution's own roster.

    Raises:
        WrongUse: it is no institution's folder. ConsortiumError: something in it is missing or damaged.
    """
    import sqlite3
    from datetime import UTC, datetime

    from client.errors import LedgerError
    from client.institution import read_membership
    from client.ledger import Ledger
    from client.settings import load_settings

    check_folder(institution)
    membership = read_membership(institution)
    home = Path(load_settings(institution / "institution.toml").storage.home)
    ledger = Ledger.look(home, lambda: datetime.now(UTC))
    try:
        yield ledger, membership
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"{home / 'ledger.db'}: the ledger cannot be read ({error}); restore the institution's home") from None
    finally:
        ledger.close()


def check_folder(institution: Path) -> None:
    """Raises WrongUse if it is no institution's folder."""
    if not institution.exists():
        raise WrongUse(f"{institution} does not exist; give an institution's folder with --institution")
    if not (institution / "institution.toml").is_file():
        raise WrongUse(f"{institution} is no institution's folder (it has no institution.toml); give one with --institution")


def at(institution: Path) -> str:
    """What a command that is named to a person needs in order to find the same folder."""
    return "" if institution == Path() else f" --institution {shlex.quote(str(institution))}"


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines, with columns of equal width; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(one: FinishedSum) -> tuple[str, ...]:
    return one.run, str(one.round), one.sum, str(one.institutions), _moment(one.at), f"{one.transcript.hex()[:16]}…"


def _moment(at: str) -> str:
    """A time in UTC to the minute; what is no time, as it is."""
    from datetime import UTC, datetime

    try:
        return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return at


def print_json(document: dict[str, object]) -> None:
    """One document on standard output."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _document(one: FinishedSum) -> dict[str, object]:
    return {
        "run": one.run,
        "round": one.round,
        "sum": one.sum,
        "institutions": one.institutions,
        "transcript_sha256": one.transcript.hex(),
        "state_sha256": one.state_hash.hex(),
        "finished_at": one.at,
    }
