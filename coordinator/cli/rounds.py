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
    from coordinator.registry.states import RunState
    from coordinator.stage_record import Stage

COLUMNS = ("round", "of", "missing", "loss", "metric", "s", "MB up", "MB down", "state")


FollowOption = Annotated[bool, typer.Option("--follow", help="Tell of finished rounds, and whom a stage waits for, until the run ends.")]
POLL_SECONDS = 1.0
SLOW_SECONDS = 5.0  # a stage that is over sooner is not told of


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
    from coordinator.registry.states import RunState

    place = located(registry, home)
    state = _follow(run, place) if follow else RunState.FINISHED
    _show(run, place, as_json)
    if state is not RunState.FINISHED:
        raise typer.Exit(1)


def _show(run: str, place: Source, as_json: bool) -> None:
    from coordinator.absences import absences, spans
    from coordinator.waiting import outlook

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
        if chosen.reason:
            typer.echo(outlook(chosen))
        if stage is not None:
            typer.echo(stage.line)


class Slow:
    """Tells of a stage under way only where it takes long, and again whenever something about it changes."""

    def __init__(self) -> None:
        self._begun: tuple[object, float] = (None, 0.0)
        self._told = ""

    def news(self, stage: Stage | None, now: float) -> str:
        """What is to be told of the stage at this time in seconds; empty where nothing is."""
        which = None if stage is None else (stage.round, stage.kind, stage.attempt, stage.stage)
        if which != self._begun[0]:
            self._begun = which, now
        if stage is None or now - self._begun[1] < SLOW_SECONDS or stage.line == self._told:
            return ""
        self._told = stage.line
        return stage.line


def _follow(run: str, place: Source) -> RunState:
    """Tells what is new since the last look, on standard error, until the run has ended; gives how it has."""
    import time

    from coordinator.waiting import outlook

    told, said, slow = -1, "", Slow()
    while True:
        with opened(place) as source:
            chosen, found = source.run(run), source.rounds(run)
        for one in found[told + 1 :]:
            typer.echo(f"round {one.number} of {chosen.rounds}: {_line(one)}", err=True)
        told = len(found) - 1
        if (state := f"{chosen.state.value}: {outlook(chosen)}" if chosen.reason else chosen.state.value) != said:
            said = state
            typer.echo(f"{chosen.run} is {state}", err=True)
        if line := slow.news(stage_of(place, chosen), time.monotonic()):
            typer.echo(line, err=True)
        if chosen.state.ended:
            return chosen.state
        time.sleep(POLL_SECONDS)


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
