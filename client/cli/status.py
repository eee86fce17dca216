"""`consortium client status`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from client.cli.ledger import InstitutionOption, JsonOption, at, check_folder, print_json, told
from client.cli.terminal import echo_lines

if TYPE_CHECKING:
    from client.joining import Standing


def status(institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """Ask the operator where this institution stands, and fetch or renew its certificate."""
    from datetime import UTC, datetime

    from client.joining import APPROVED, fetch_certificate

    folder = institution or Path()
    with told(as_json):
        check_folder(folder)
        standing = fetch_certificate(folder, lambda: datetime.now(UTC))
        warning = _clock_warning(folder) if standing.state == APPROVED else ""
    if as_json:
        print_json({**document(standing), "clock": warning})
        return
    tell(standing, folder)
    if warning:
        typer.echo(warning)


def _clock_warning(folder: Path) -> str:
    """Also where nobody can say: a certificate that is whole needs no service. Raises ServiceRefused, as of a revoked institution."""
    from datetime import UTC, datetime

    from client.checks.connection import clock_warning
    from client.errors import ServiceRefused
    from protocols.errors import ConsortiumError

    try:
        return clock_warning(folder, lambda: datetime.now(UTC))
    except ServiceRefused:
        raise
    except ConsortiumError as error:
        return f"the clocks were not compared: {error}"


def tell(standing: Standing, folder: Path) -> None:
    """Where the institution of a folder stands and what comes next."""
    echo_lines([f"{standing.name} at {standing.coordinator}: {standing.state}"])
    if standing.state == "waiting":
        typer.echo(f"Read these words to the operator, by telephone or in person:\n\n    {standing.fingerprint}\n")
        typer.echo(f"The operator's own, which `coordinator invite` showed there, are {standing.coordinator_fingerprint}")
        typer.echo(f"After the operator has approved: consortium client status{at(folder)}")
    elif standing.valid_until is not None:
        typer.echo(f"Certificate until {standing.valid_until:%Y-%m-%d}; it is renewed by itself. Words: {standing.fingerprint}")
    else:
        typer.echo("Ask the operator why; a new invitation lets this institution ask again, from a new folder with new keys.")


def document(standing: Standing) -> dict[str, object]:
    """For programs."""
    until = standing.valid_until
    return {
        "schema": 1,
        "institution": standing.name,
        "coordinator": standing.coordinator,
        "state": standing.state,
        "fingerprint": standing.fingerprint,
        "coordinator_fingerprint": standing.coordinator_fingerprint,
        "certificate_until": None if until is None else until.isoformat(),
    }
