"""`consortium client ledger` and `consortium client ledger verify`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.institution import Membership
    from client.ledger import FinishedSum, Ledger

InstitutionOption = Annotated[Path, typer.Option("--institution", metavar="FOLDER", help="The institution's folder; this one if left out.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

app = typer.Typer(help="List the finished sums of this institution's ledger, or verify it.")


@app.callback(invoke_without_command=True)
def sums(context: typer.Context, institution: InstitutionOption = Path(), as_json: JsonOption = False) -> None:
    """List the finished sums of this institution's ledger, or verify it."""
    if context.invoked_subcommand is not None:
        return
    with opened(institution) as (ledger, membership):
        finished = ledger.finished_sums()
    if as_json:
        typer.echo(json.dumps({"schema": 1, "institution": membership.name, "sums": [_document(one) for one in finished]}, indent=2))
    else:
        typer.echo("\n".join(_line(one) for one in finished) or f"{membership.name} has finished no sum yet")


@app.command()
def verify(institution: InstitutionOption = Path(), as_json: JsonOption = False) -> None:
    """Check transcripts, heads of the event chain and erasure; says what was proved, what could not be, and what was kept as evidence."""
    from client.evidence import read_evidence
    from client.verify import verify_ledger

    with opened(institution) as (ledger, membership):
        audit, evidence = verify_ledger(ledger, membership), read_evidence(ledger, membership)
    if as_json:
        document = {"schema": 1, "institution": membership.name, **audit.document(), "evidence": evidence}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        titled = ["Evidence against the coordinator:", *(f"  - {sentence}" for sentence in evidence)] if evidence else []
        typer.echo("\n".join([*audit.lines(), *titled]))
    if not audit.ok:
        raise typer.Exit(1)


@contextmanager
def opened(institution: Path) -> Iterator[tuple[Ledger, Membership]]:
    """The ledger of an institution's folder to read from, and the institution's own roster."""
    from datetime import UTC, datetime

    from client.institution import read_membership
    from client.ledger import Ledger
    from client.settings import load_settings

    membership = read_membership(institution)
    home = Path(load_settings(institution / "institution.toml").storage.home)
    ledger = Ledger.look(home, lambda: datetime.now(UTC))
    try:
        yield ledger, membership
    finally:
        ledger.close()


def _line(one: FinishedSum) -> str:
    return f"{one.run}  round {one.round}  {one.sum:<8}  {one.institutions} institutions  {one.at}  transcript {one.transcript.hex()[:16]}…"


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
