"""`consortium client models list|pull|verify`: released versions at an institution. 0 is nothing wrong, 1 something wrong, 2 wrong use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.ledger import InstitutionOption, JsonOption, WrongUse, check_folder, opened, print_json, table, told
from client.cli.terminal import echo_lines

if TYPE_CHECKING:
    from protocols.audit import Audit
    from protocols.service import ModelEntry

NONE = "No released model contains rounds of this institution."
COLUMNS = ("model", "version", "run", "released (UTC)", "here", "withdrawn because")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]
VersionArgument = Annotated[int | None, typer.Argument(metavar="[VERSION]", help="Its version; the latest if left out.", min=1)]
FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="A version's directory.")]

app = typer.Typer(no_args_is_help=True, help="Released models that contain this institution's rounds: list, pull, verify.")


@app.command("list")
def list_versions(institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """List the released versions that contain rounds of this institution, as the coordinator says."""
    from datetime import UTC, datetime

    from client.connection import connect
    from client.pulled_models import RELEASED, list_models

    folder = institution or Path()
    with told(as_json):
        check_folder(folder)
        with connect(folder, lambda: datetime.now(UTC)) as service:
            found = [(one, (folder / RELEASED / one.name / str(one.version)).is_dir()) for one in list_models(service)]
    if as_json:
        print_json({"schema": 1, "models": [_document(*one) for one in found]})
    else:
        echo_lines(table([COLUMNS, *(_row(*one) for one in found)]) if found else [NONE])


@app.command()
def pull(name: NameArgument, version: VersionArgument = None, institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """Fetch a released version into released/NAME/VERSION, if it is what this institution's own ledger says it is."""
    from datetime import UTC, datetime

    from client.connection import connect
    from client.pulled_models import latest, pull_model

    folder = institution or Path()
    with told(as_json), opened(folder) as (ledger, membership), connect(folder, lambda: datetime.now(UTC)) as service:
        pulled = pull_model(service, folder, membership, ledger, name, version or latest(service, name))
    wrong = "" if pulled.audit.ok else " as evidence; do not use it"
    kept = f"{pulled.name} {pulled.version} lies in {pulled.folder}{wrong}."
    _report(pulled.audit, {"name": pulled.name, "version": pulled.version, "folder": str(pulled.folder)}, kept, as_json)


@app.command()
def verify(directory: FolderArgument, institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """Check a version's signature and files, and compare it with the plan and the final state in this institution's own ledger."""
    from client.model_audit import audit_model

    folder = institution or Path()
    with told(as_json), opened(folder) as (ledger, membership):
        directory = found_version(directory, folder)
        audit = audit_model(directory, membership, ledger)
    _report(audit, {"folder": str(directory)}, audit.verdict, as_json)


def found_version(directory: Path, institution: Path) -> Path:
    """A version's folder, as it stands here or in the institution's folder. Raises WrongUse if there is none."""
    for place in (directory, institution / directory):
        if place.is_dir():
            return place
    raise WrongUse(f"{directory} is no folder, here or in {institution}; give a version's, such as released/NAME/VERSION")


def _report(audit: Audit, about: dict[str, object], last: str, as_json: bool) -> None:
    if as_json:
        print_json({"schema": 1, **about, **audit.document()})
    else:
        typer.echo("\n".join([*audit.lines(), last]))
    if not audit.ok:
        raise typer.Exit(1)


def _row(one: ModelEntry, here: bool) -> tuple[str, ...]:
    because = (one.withdrawn_reason or "no reason given") if one.withdrawn_at else ""
    return one.name, str(one.version), one.run, one.released_at[:16].replace("T", " "), "yes" if here else "", because


def _document(one: ModelEntry, here: bool) -> dict[str, object]:
    return {
        "name": one.name,
        "version": one.version,
        "run": one.run,
        "manifest_sha256": one.manifest_sha256,
        "released_at": one.released_at,
        "withdrawn_at": one.withdrawn_at or None,
        "withdrawn_reason": one.withdrawn_reason,
        "here": here,
    }
