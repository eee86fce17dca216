"""`consortium client backup`, `restore` and `rejoin`: 0 is done, 1 something failed, 2 wrong use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.ledger import InstitutionOption, JsonOption, WrongUse, YesOption, check_folder, opened, print_json, told

if TYPE_CHECKING:
    from client.restoring import Restored
    from protocols.service import SpentRun

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A new file, which only its owner may read.")]
BackupArgument = Annotated[Path | None, typer.Argument(metavar="[BACKUP]", help="A file that `consortium client backup` made.")]
WithoutOption = Annotated[bool, typer.Option("--without-backup", help="There is none: begin with a ledger that knows nothing.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run; `consortium client ledger` and the node's log name it.")]
PersonalOption = Annotated[
    bool, typer.Option("--personal", help="Also what this institution keeps to itself between rounds, which tells of its records.")
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Do not ask the operator what was spent: every private run is charged with the whole of its plan.")
]


def backup(
    file: FileArgument, personal: PersonalOption = False, institution: InstitutionOption = None, as_json: JsonOption = False
) -> None:
    """Copy the ledger to a new file, also while the node is at work; keys, records and secrets of open epochs are not in it."""
    from client.backup import write_backup

    folder = institution or Path()
    with told(as_json):
        write_backup(_home(folder), file, personal)
    if as_json:
        print_json({"schema": 1, "ok": True, "file": str(file)})
    else:
        typer.echo(
            f"{file} holds the ledger as it is now. Copy keys and settings of {folder} apart, where only this institution can read them."
        )


def restore(
    backup_file: BackupArgument = None,
    without_backup: WithoutOption = False,
    offline: OfflineOption = False,
    institution: InstitutionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a new incarnation of the ledger from a backup, where the node's home is lost; the node must not run."""
    from datetime import UTC, datetime

    from client import restoring

    folder = institution or Path()
    with told(as_json):
        if (backup_file is None) is not without_backup:
            raise WrongUse("name the backup, or say --without-backup where there is none")
        home, spent = _home(folder), None if offline else _spent(folder)
        restored = restoring.restore(backup_file, home, spent, lambda: datetime.now(UTC))
    if as_json:
        print_json(_document(restored))
    else:
        tell_restored(restored, home)


def rejoin(run: RunArgument, yes: YesOption = False, institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """Take part at once in a run that was submitted after the ledger was restored; a person must know that it was."""
    with told(as_json), opened(institution or Path()) as (ledger, membership):
        if not ledger.returning.is_only_followed(run):
            raise WrongUse(f"{membership.name} takes part in run {run} already, or its ledger was never restored; nothing is to be done")
        if ledger.returning.is_older(run):
            raise WrongUse(f"run {run} is older than the restore; {membership.name} follows it until it may take part again by itself")
        if not yes and as_json:
            raise WrongUse("with --json nobody can be asked; say --yes")
        if not yes and not typer.confirm(
            f"Was run {run} submitted after this ledger was restored, by what its operator told you elsewhere?"
        ):
            raise typer.Exit(1)
        ledger.returning.rejoin(run)
    if as_json:
        print_json({"schema": 1, "ok": True, "run": run})
    else:
        typer.echo(f"{membership.name} takes part in run {run} from its next sum on.")


def _home(folder: Path) -> Path:
    from client.settings import load_settings

    check_folder(folder)
    return Path(load_settings(folder / "institution.toml").storage.home)


def _spent(folder: Path) -> Sequence[SpentRun]:
    from datetime import UTC, datetime

    from client.connection import connect
    from client.errors import BackupError
    from protocols.errors import ConsortiumError
    from protocols.service import SPENT, SpentRequest

    try:
        with connect(folder, lambda: datetime.now(UTC)) as service:
            return list(service.stream(SPENT, SpentRequest()))
    except ConsortiumError as error:
        raise BackupError(f"{error}; or restore with --offline, which charges every private run with the whole of its plan") from None


def tell_restored(restored: Restored, home: Path) -> None:
    """What a restore came to, and what follows from it."""
    typer.echo(f"{home} holds incarnation {restored.incarnation} of the ledger. What was promised after the backup is lost, and so:")
    typer.echo("- epochs that were open are abandoned, and the node takes part in those that begin now;")
    runs = ", ".join(restored.runs) or "any run that is under way"
    typer.echo(
        f"- {runs}: the node follows, and sends again after an update was finished without it; with three institutions, a run waits;"
    )
    asked = "as the registry says" if restored.online else "with the whole of its plan, as the operator was not asked"
    typer.echo(f"- each private run is charged {asked}; runs that were accepted after the backup are not known offline.")
    if restored.unknown:
        typer.echo(f"- charged although the backup does not know them: {', '.join(restored.unknown)}.")


def _document(restored: Restored) -> dict[str, object]:
    return {
        "schema": 1,
        "ok": True,
        "incarnation": restored.incarnation,
        "runs": list(restored.runs),
        "unknown_private_runs": list(restored.unknown),
        "asked_operator": restored.online,
    }
