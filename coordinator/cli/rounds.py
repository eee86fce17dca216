"""`consortium coordinator rounds RUN`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.options import HomeToRead, JsonOption, RegistryOption, RunArgument, Source, located, opened
from coordinator.cli.printing import figure, megabytes, print_json, print_table, timestamp
from coordinator.cli.runs import stage_of

if TYPE_CHECKING:
    from coordinator.registry.records import Contribution, Round

COLUMNS = ("round", "of", "missing", "loss", "metric", "s", "MB up", "MB down", "state")


FollowOption = Annotated[bool, typer.Option("--follow", help="Tell of finished rounds, and whom a stage waits for, until the run ends.")]
POLL_SECONDS = 1.0


def rounds(
    run: RunArgument,
    registry: RegistryOption = None,
    home: HomeToRead = None,
    follow: FollowOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the finished rounds of a run: of how many institutions, how long, with how much traffic. Round 0 measures the base.

    With --follow the exit code is 0 if the run finished, and 1 if it failed or was stopped.
    """
    place = located(registry, home)
    if follow:
        _follow(run, place)
    from coordinator.absences import absences, spans

    with opened(place) as source:
        chosen = source.run(run)
        found = source.rounds(chosen.run)
    stage = stage_of(place, chosen)
    if as_json:
        under_way, listed = None if stage is None else asdict(stage), [_document(one) for one in found]
        print_json({"run": chosen.run, "state": chosen.state.value, "stage": under_way, "rounds": listed})
    else:
        print_table(f"Rounds of {chosen.run} ({chosen.state.value})", COLUMNS, [_row(one) for one in found])
        for absence in absences(found):
            typer.echo(f"{absence.institution} was missing in round {spans(absence.rounds)}: {absence.reason}")
        if stage is not None:
            typer.echo(stage.line)


def _follow(run: str, place: Source) -> None:
    """What is new since the last look, on standard error; returns when the run has ended well."""
    import time

    from coordinator.registry.states import RunState

    told, said, waited = -1, "", ""
    while True:
        with opened(place) as source:
            chosen, found = source.run(run), source.rounds(run)
        for one in found[told + 1 :]:
            typer.echo(f"round {one.number} of {chosen.rounds}: {_line(one)}", err=True)
        told = len(found) - 1
        if (state := f"{chosen.state.value}: {chosen.reason}" if chosen.reason else chosen.state.value) != said:
            said = state
            typer.echo(f"{chosen.run} is {state}", err=True)
        stage = stage_of(place, chosen)
        if stage is not None and stage.line != waited:
            waited = stage.line
            typer.echo(waited, err=True)
        if chosen.state.ended:
            break
        time.sleep(POLL_SECONDS)
    if chosen.state is not RunState.FINISHED:
        raise typer.Exit(1)


def _line(one: Round) -> str:
    away = f", without {', '.join(one.missing)}" if one.missing else ""
    return f"{one.institutions} institutions{away}, loss {figure(one.loss)}, metric {figure(one.metric)}, {one.seconds:.1f} s"


def _row(one: Round) -> tuple[str, ...]:
    missing = ", ".join(one.missing) or "-"
    traffic = megabytes(one.bytes_up), megabytes(one.bytes_down)
    return (
        str(one.number),
        str(one.institutions),
        missing,
        figure(one.loss),
        figure(one.metric),
        f"{one.seconds:.1f}",
        *traffic,
        one.state_sha256[:8],
    )


def _document(one: Round) -> dict[str, Any]:
    return {
        "round": one.number,
        "institutions": one.institutions,
        "missing": list(one.missing),
        "absences": {part.institution: _absence(part) for part in one.contributions if part.missing_from},
        "loss": one.loss,
        "metric": one.metric,
        "seconds": one.seconds,
        "bytes_up": one.bytes_up,
        "bytes_down": one.bytes_down,
        "state_sha256": one.state_sha256,
        "transcripts": dict(one.transcripts),
        "experts": None if one.experts is None else {str(layer): list(chosen) for layer, chosen in one.experts.items()},
        "finished_at": timestamp(one.finished_at),
        **({"figures": dict(one.figures)} if one.figures else {}),
    }


def _absence(part: Contribution) -> dict[str, Any]:
    return {"from": part.missing_from, "reason": part.reason}
