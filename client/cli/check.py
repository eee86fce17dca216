"""`consortium client check`: 0 is nothing failed, 1 something failed, 2 wrong use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.ledger import InstitutionOption, JsonOption, check_folder, print_json, told

if TYPE_CHECKING:
    from client.checks.finding import Finding

PlanOption = Annotated[Path | None, typer.Option("--plan", metavar="PLAN", help="The plan that is to be run; more can be tested with it.")]


def check(plan: PlanOption = None, institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """Test everything before the first run, and say what to do about what fails."""
    from client.checks.finding import OUTCOMES

    folder = institution or Path()
    with told(as_json):
        check_folder(folder)
        findings = _findings(folder, plan, as_json)
    failed = any(finding.outcome == "failed" for finding in findings)
    if as_json:
        print_json({"schema": 1, "ok": not failed, "checks": [finding.document() for finding in findings]})
    else:
        counts = ", ".join(f"{sum(f.outcome == outcome for f in findings)} {outcome}" for outcome in OUTCOMES)
        typer.echo(counts)
    if failed:
        raise typer.Exit(1)


def _findings(folder: Path, plan: Path | None, as_json: bool) -> list[Finding]:
    """All findings; people read each as soon as it is there."""
    from datetime import UTC, datetime

    from client.checks.checking import check_institution
    from client.cli.terminal import show_records

    found = []
    show = None if as_json else show_records
    for finding in check_institution(folder, plan, lambda: datetime.now(UTC), show):
        found.append(finding)
        if not as_json:
            typer.echo("\n".join(finding.lines()))
    return found
