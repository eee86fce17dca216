"""`consortium coordinator participants`, and `approve`, `refuse` and `revoke` below it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.options import HomeOption, JsonOption, at_home
from coordinator.cli.printing import day, print_json, print_table, timestamp

if TYPE_CHECKING:
    from coordinator.participants import Known

COLUMNS = ("institution", "state", "since (UTC)", "fingerprint")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The institution.")]
WordsOption = Annotated[
    str | None, typer.Option("--fingerprint", metavar="WORDS", help="The words that the institution read out; nothing is asked then.")
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, in a sentence; the institution is told.")]
InnerHome = Annotated[Path | None, typer.Option("--home", metavar="DIR", help="The operator's folder; this one if left out.")]

app = typer.Typer(help="List institutions and requests to join; approve, refuse or revoke one.")


@dataclass(frozen=True, slots=True)
class Options:
    """What was said before the name of a command holds for it too."""

    home: Path


@app.callback(invoke_without_command=True)
def participants(context: typer.Context, home: HomeOption = Path(), as_json: JsonOption = False) -> None:
    """List institutions and requests to join; approve, refuse or revoke one."""
    context.obj = Options(home)
    if context.invoked_subcommand is not None:
        return
    from coordinator.participants import known_institutions

    with at_home(home) as (_, registry):
        found = known_institutions(registry)
    if as_json:
        print_json({"participants": [_document(one) for one in found]})
        return
    print_table("Institutions", COLUMNS, [_row(one) for one in found], whole=("fingerprint",))
    for one in found:
        if one.reason:
            typer.echo(f"{one.name} is {one.state}: {one.reason}")


@app.command()
def approve(context: typer.Context, name: NameArgument, fingerprint: WordsOption = None, home: InnerHome = None) -> None:
    """Let an institution in, after its words were compared with what it read out by telephone."""
    import os
    from datetime import UTC, datetime

    from coordinator.admission import approve as approve_institution
    from coordinator.admission import request_fingerprint, revoked_participant, waiting_request

    with at_home(home or context.obj.home) as (found, registry):
        request = waiting_request(registry, name)
        gone = revoked_participant(registry, name)
        _compare(name, request_fingerprint(request), fingerprint, "" if gone is None else gone.revoked_reason)
        approve_institution(registry, found.authority(lambda: datetime.now(UTC), os.urandom), request)
    typer.echo(f"{name} is approved; `consortium client status` there fetches its certificate.")


@app.command()
def refuse(context: typer.Context, name: NameArgument, reason: ReasonOption = "", home: InnerHome = None) -> None:
    """Refuse a request to join; another invitation lets the institution ask again."""
    from coordinator.admission import waiting_request

    with at_home(home or context.obj.home) as (_, registry):
        waiting_request(registry, name)
        registry.refuse_join(name, reason)
    typer.echo(f"{name} is refused.")


@app.command()
def revoke(context: typer.Context, name: NameArgument, reason: ReasonOption, home: InnerHome = None) -> None:
    """Take an institution's access away at once; what it contributed to stays as it is."""
    with at_home(home or context.obj.home) as (_, registry):
        registry.revoke(name, reason)
    typer.echo(f"{name} is revoked; its calls are refused from now on.")


def _compare(name: str, expected: str, given: str | None, revoked: str) -> None:
    from coordinator.errors import AdmissionError
    from protocols.fingerprint import WORDS, is_fingerprint, same_fingerprint

    if given is not None:
        if not is_fingerprint(given):
            raise AdmissionError(
                f"--fingerprint takes the {WORDS} words that {name} reads out, joined by hyphens: these are none; give all of them"
            )
        if not same_fingerprint(given, expected):
            raise AdmissionError(f"the request of {name} has other words than these; do not approve it, and find out who sent it")
        return
    asks = f"was revoked ({revoked}) and asks to come back with new keys, and" if revoked else "asks to join with"
    typer.echo(f"{name} {asks} the words\n\n    {expected}\n")
    if not typer.confirm(f"Did {name} read out the same words, by telephone or in person?"):
        raise AdmissionError(f"{name} was not approved; refuse the request if the words differ")


def _row(one: Known) -> tuple[str, ...]:
    return one.name, one.state, day(one.since), one.fingerprint


def _document(one: Known) -> dict[str, Any]:
    return {
        "name": one.name,
        "state": one.state,
        "since": timestamp(one.since),
        "fingerprint": one.fingerprint,
        "public_key": one.public_key,
        "reason": one.reason,
    }
