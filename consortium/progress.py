"""Live progress on the terminal: a line for the federation, one for the baselines, a sentence per finished round."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from consortium.baseline_process import BaselineProgress
from consortium.personalisation import TuneProgress
from coordinator.events import Event, RoundFinished, RunFinished, RunStarted, StageFinished


class LiveProgress:
    """A watcher for `simulate`; used as a context manager, so that the terminal is restored whatever happens.

    It shows nothing before the first event: what cannot be used is found by then.
    """

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:<46}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console)
        self._federation = self._progress.add_task("federation", total=None)
        self._others: dict[str, TaskID] = {}
        self.seen_anything = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.seen_anything:
            self._progress.stop()

    def __call__(self, event: Event | BaselineProgress | TuneProgress) -> None:
        self.seen_anything = True
        self._progress.start()
        if isinstance(event, RunStarted):
            self._show_start(event)
        elif isinstance(event, StageFinished):
            self._progress.update(self._federation, description=f"round {event.round}: {event.kind}, {event.stage}")
        elif isinstance(event, RoundFinished):
            self._progress.update(self._federation, completed=event.round)
            self._progress.console.print(round_line(event), highlight=False)
        elif isinstance(event, RunFinished):
            self._progress.update(self._federation, description="federation")
        elif isinstance(event, BaselineProgress):
            self._show(event.name if event.name == "pooled" else f"{event.name} alone", event)
        elif isinstance(event, TuneProgress):
            self._show(f"{event.name}, own model", event)

    def _show_start(self, event: RunStarted) -> None:
        self._progress.update(self._federation, total=event.rounds, completed=event.resumed_after or 0)
        if event.resumed_after is not None:
            self._progress.console.print(f"going on after round {event.resumed_after}", highlight=False)

    def _show(self, line: str, event: BaselineProgress | TuneProgress) -> None:
        if line not in self._others:
            self._others[line] = self._progress.add_task(line, total=event.total)
        self._progress.update(self._others[line], completed=event.done)


def round_line(event: RoundFinished) -> str:
    """One finished round in words."""
    loss = "" if event.loss is None else f"  loss {event.loss:.3f}"
    metric = "" if event.metric is None else f"  metric {event.metric:.3f}"
    missing = f"  missing: {', '.join(event.missing)}" if event.missing else ""
    traffic = f"{event.bytes_up / 1e6:.1f} MB up, {event.bytes_down / 1e6:.1f} MB down"
    return f"round {event.round}: {event.institutions} institutions{loss}{metric}  {traffic}  {event.seconds:.1f} s{missing}"
