"""Works through the rows, some at a time, each in a process of its own; finished rows are never measured again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.learning.estimate import Estimate
from benchmarks.learning.row_plan import NeedsRow, plan_of_row
from benchmarks.learning.rows import Figures, Results, Row, fingerprint, planned
from protocols.errors import ConsortiumError
from protocols.files import write_file
from protocols.plan import Plan

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Terms:
    """Where the work lies, which rows are wanted, and how long rows may be started."""

    work: Path
    only: tuple[str, ...] = ()  # parts of a row's name, all of which must occur
    hours: float = 4.0
    processes: int = 2


@dataclass
class Runner:
    """The rows of one call."""

    terms: Terms
    plans: Mapping[str, Plan]  # by set
    environment: Mapping[str, str]
    say: Callable[[str], None] = print
    on_row: Callable[[list[Figures]], None] = lambda _: None  # all figures, after each finished row
    failed: dict[Row, str] = field(default_factory=dict)
    _done: set[Row] = field(default_factory=set)
    _running: dict[Row, tuple[subprocess.Popen[str], float]] = field(default_factory=dict)

    @property
    def results(self) -> Results:
        return Results(self.terms.work / "rows")

    def wanted(self) -> list[Row]:
        """All rows of this call, finished ones included."""
        rows = planned(self.results.all())
        return [row for row in dict.fromkeys(rows) if row.data in self.plans and all(part in str(row) for part in self.terms.only)]

    def open_rows(self) -> list[Row]:
        """Rows that are neither measured nor running nor refused."""
        return [row for row in self.wanted() if row not in self._running and not self._is_done(row)]

    def finished(self) -> list[Figures]:
        """Figures of every row of the benchmark that holds for the present plans, whatever this call wants."""
        results = self.results
        known = {row: results.read(row) for row in planned(results.all()) if row.data in self.plans}
        return [found for row, found in known.items() if found is not None and self._is_done(row) and row not in self.failed]

    def adopt(self, saved: Sequence[Figures]) -> None:
        """Takes over saved rows that hold for the present plans, where no row here does."""
        known = {Row(one["set"], one["variant"], one["seed"]): one for one in saved}
        for row in planned(saved):  # what others follow from comes before them
            plan = self._plan(row) if row in known and row.data in self.plans else None
            if plan is not None and known[row]["plan_sha256"] == fingerprint(plan) and not self.results.holds(row, plan):
                self.results.keep(row, known[row])

    def run(self) -> None:
        """Returns when every row is measured or refused, or the time is up and what was running has finished."""
        start = time.monotonic()
        try:
            while self._step(time.monotonic() - start):
                time.sleep(0.5)
        finally:
            for process, _ in self._running.values():
                process.terminate()

    def _step(self, elapsed: float) -> bool:
        self._collect(elapsed)
        free = self.terms.processes - len(self._running)
        for row, plan in self._next(elapsed, free) if free else ():
            self._start(row, plan)
        return bool(self._running)

    def _next(self, elapsed: float, free: int) -> list[tuple[Row, Plan]]:
        estimate, left = Estimate(self.results.all()), self.terms.hours * 3600 - elapsed
        in_time = ((row, self._plan(row)) for row in self.open_rows() if estimate.seconds(row) <= left)
        return [(row, plan) for row, plan in in_time if plan is not None][:free]

    def _is_done(self, row: Row) -> bool:
        """Whether there is nothing left to measure: the row's figures are there, or its plan is refused."""
        if row in self._done or row in self.failed:
            return True
        plan = self._plan(row)
        if plan is None or not self.results.holds(row, plan):
            return row in self.failed
        self._done.add(row)
        return True

    def _plan(self, row: Row) -> Plan | None:
        """None where the plan is refused, or follows from a row that has no figures yet."""
        try:
            return plan_of_row(row, self.plans[row.data], self.results)
        except NeedsRow as missing:
            if missing.row in self.failed:
                self._fail(row, str(missing))
        except ConsortiumError as refused:
            self._fail(row, str(refused))
        return None

    def _start(self, row: Row, plan: Plan) -> None:
        work = self.terms.work.resolve()
        path = work / "plans" / f"{row.folder}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, plan.canonical())
        line = [sys.executable, "-m", "benchmarks.learning.one_row", str(path), row.data, row.variant, str(row.seed), str(work)]
        process = subprocess.Popen(  # noqa: S603 (our own module)
            line, cwd=_ROOT, env={**self.environment, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
        )
        self._running[row] = (process, time.monotonic())

    def _collect(self, elapsed: float) -> None:
        for row, (process, began) in list(self._running.items()):
            if process.poll() is None:
                continue
            del self._running[row]
            problem = process.communicate()[1].strip()
            if process.returncode:
                self._fail(row, problem.splitlines()[-1] if problem else f"ended with {process.returncode}")
                continue
            self.on_row(self.finished())
            self._say_done(row, time.monotonic() - began, elapsed)

    def _fail(self, row: Row, sentence: str) -> None:
        self.failed[row] = sentence
        self.say(f"left out: {row}: {sentence}")

    def _say_done(self, row: Row, seconds: float, elapsed: float) -> None:
        found, estimate = self.results.read(row) or {}, Estimate(self.results.all())
        remaining = sum(estimate.seconds(one) for one in [*self.open_rows(), *self._running]) / self.terms.processes
        value = found.get("federated", found.get("pooled"))
        wanted = self.wanted()
        done = sum(one in self._done for one in wanted)
        times = f"{elapsed / 3600:.2f} h gone, about {remaining / 3600:.2f} h to go"
        self.say(f"{done} of {len(wanted)} rows, {times}: {row}: {value:.3f} in {seconds:.0f} s")
