"""`consortium client rehearse`: 0 is a round that could be played, 1 one that could not, 2 wrong use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.ledger import InstitutionOption, JsonOption, WrongUse, check_folder, print_json, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.rehearsal.rehearsing import Means
    from client.rehearsal.report import Rehearsal
    from client.workbench import Workbench
    from protocols.schedule import PlannedSum

PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, a TOML file, or the plan.json of a run.")]
SeenOption = Annotated[str, typer.Option("--as-seen-by", metavar="coordinator", help="Show what the coordinator sees of the update.")]
TOLD_EVERY_SECONDS = 5.0
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the bytes that would be sent to this file.")]
PictureOption = Annotated[Path | None, typer.Option("--out-picture", metavar="FILE", help="Draw the histograms as a PNG file.")]


def rehearse(
    plan: PlanArgument,
    institution: InstitutionOption = None,
    as_seen_by: SeenOption = "",
    out: OutOption = None,
    out_picture: PictureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one round on this institution's own records without any connection, and look at what would leave."""
    from client.institution import read_membership
    from client.rehearsal.picture import draw
    from client.rehearsal.rehearsing import rehearse as play
    from client.rehearsal.rehearsing import written
    from client.spending import policy_of

    folder = institution or Path()
    with told(as_json):
        if as_seen_by not in ("", "coordinator"):
            raise WrongUse(f"--as-seen-by takes coordinator, not {as_seen_by}")
        check_folder(folder)
        membership, policy = read_membership(folder), policy_of(folder)
        bench, notes = _bench(plan, folder)
        if not as_json:
            _show_records(bench, notes)
        with written(out) as file:
            found = play(bench, membership.name, len(membership.roster.entries), policy, file, _means(folder))
        if out_picture is not None:
            draw(found.histograms, f"Round 1 of plan {found.plan.name}", out_picture)
    if as_json:
        seen = {"seen_by_coordinator": list(found.histograms.masked)} if as_seen_by else {}
        print_json({"schema": 1, **found.document(), **seen, "notes": list(notes)})
        return
    _tell(found, bool(as_seen_by), out)
    if out_picture is not None:
        typer.echo(f"The histograms are drawn in {out_picture}.")


def _tell(found: Rehearsal, as_seen: bool, out: Path | None) -> None:
    typer.echo("\n".join(found.lines()))
    if as_seen:
        typer.echo("\n".join(found.histograms.lines()))
    typer.echo(f"The bytes that would be sent are in {out}, one message after the other." if out else "--out FILE keeps these bytes.")


def _bench(path: Path, folder: Path) -> tuple[Workbench, tuple[str, ...]]:
    from client.given_plan import complete_plan, missing_choices, read_given_plan
    from client.settings import load_settings
    from client.workbench import load_base, open_workbench
    from protocols.errors import PlanError

    plan, settings = read_given_plan(path), load_settings(folder / "institution.toml")
    if lacking := missing_choices(plan):  # said before a large base is read
        raise PlanError(lacking)
    base = load_base(settings.base_directory(plan.base.name), settings.hardware)
    given = complete_plan(plan, base.sha256)
    return open_workbench(given.plan, settings, base), given.notes


def _means(folder: Path) -> Means:
    import os
    import time
    from datetime import UTC, datetime

    from client.machine import peak_memory
    from client.rehearsal.rehearsing import Means

    told = _Told(time.monotonic)
    return Means(lambda: datetime.now(UTC), time.monotonic, peak_memory, os.urandom, folder, told.sum, told.step)


class _Told:
    """How far a rehearsal has come, on standard error, so that a program reads the answer alone."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._about, self._next = clock, "", 0.0

    def sum(self, planned: PlannedSum) -> None:
        self._about, self._next = f"round {planned.round}, {planned.kind} sum", self._clock() + TOLD_EVERY_SECONDS
        typer.echo(f"playing {self._about}", err=True)

    def step(self, done: int) -> None:
        if self._clock() >= self._next:
            self._next = self._clock() + TOLD_EVERY_SECONDS
            typer.echo(f"playing {self._about}: step {done} is trained", err=True)


def _show_records(bench: Workbench, notes: tuple[str, ...]) -> None:
    from client.cli.terminal import show_records

    show_records(bench.train_set.examples, bench.base.tokenizer)
    for note in notes:
        typer.echo(f"note: {note}")
