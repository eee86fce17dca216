"""`consortium coordinator pause|resume|stop RUN`: writes what is wanted, and waits until the run's process did it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.options import HomeOption, JsonOption, RunArgument

if TYPE_CHECKING:
    from coordinator.registry.records import Run
    from coordinator.registry.states import WantedState

WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it took effect.")]
POLL_SECONDS = 0.5
TOLD_EVERY_SECONDS = 30.0


def pause(run: RunArgument, home: HomeOption = Path(), wait: WaitOption = True, as_json: JsonOption = False) -> None:
    """Let a run rest after the sum under way; its institutions are asked nothing until it is resumed."""
    from coordinator.registry.states import WantedState

    _want(run, WantedState.PAUSED, home, wait, as_json)


def resume(run: RunArgument, home: HomeOption = Path(), wait: WaitOption = True, as_json: JsonOption = False) -> None:
    """Let a paused run go on."""
    from coordinator.registry.states import WantedState

    _want(run, WantedState.RUNNING, home, wait, as_json)


def stop(run: RunArgument, home: HomeOption = Path(), wait: WaitOption = True, as_json: JsonOption = False) -> None:
    """End a run for good, at once or after a sum whose set was proposed; the plan may be submitted again, with another seed."""
    from coordinator.registry.states import WantedState

    _want(run, WantedState.STOPPED, home, wait, as_json)


def _want(run: str, wanted: WantedState, home: Path, wait: bool, as_json: bool) -> None:
    import time

    from coordinator.cli.options import at_home
    from coordinator.cli.printing import print_json

    with at_home(home) as (_, registry):
        found = registry.set_wanted(registry.run(run).run, wanted)
        told = 0.0
        while wait and not _took_effect(found, wanted):
            if time.monotonic() - told > TOLD_EVERY_SECONDS:
                told = time.monotonic()
                typer.echo(
                    f"{found.run} is {found.state.value}; waiting until its process comes to it, which may be after the sum under way",
                    err=True,
                )
            time.sleep(POLL_SECONDS)
            found = registry.run(found.run)
    if as_json:
        print_json({"run": found.run, "state": found.state.value, "wanted": found.wanted.value, "reason": found.reason})
    else:
        typer.echo(f"{found.run} is {found.state.value}" + ("" if wait else f", {found.wanted.value} is wanted"))


def _took_effect(run: Run, wanted: WantedState) -> bool:
    from coordinator.registry.states import RunState, WantedState
    from coordinator.waiting import is_at_rest

    if run.state.ended:
        return True
    if wanted is WantedState.RUNNING:
        return not is_at_rest(run)
    return run.state is RunState.PAUSED and wanted is WantedState.PAUSED
