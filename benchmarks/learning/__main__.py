"""`python -m benchmarks.learning`: measures what is missing, for some hours; `--table` writes the pages from the committed figures.

Stopped and started again it goes on: finished rows are kept, a begun one goes on after its last finished round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.learning.estimate import Estimate
from benchmarks.learning.reach import reach
from benchmarks.learning.rows import Figures
from benchmarks.learning.runner import Runner, Terms
from benchmarks.learning.sets import FULL, SHORT, DataError, open_set
from benchmarks.learning.table import put_tables, tables
from protocols.files import write_file

_LIBRARIES = ("torch", "numpy", "flwr")


def main(arguments: Sequence[str]) -> int:
    """0 where every row of this call is measured."""
    options = _parser().parse_args(arguments)
    try:
        saved = saved_rows(options.out)
        if options.table:
            put_tables(options.page, f"{reach(saved)}\n\n{tables(saved)}")
            return 0
        plans = {name: open_set(name, options.data, options.work).plan for name in (*FULL, *SHORT)}
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    terms = Terms(options.work, tuple(options.only), options.hours, options.processes)
    runner = Runner(terms, plans, os.environ, on_row=lambda rows: save(rows, options.out, arguments, options.date))
    runner.adopt(saved)
    if options.list:
        _list(runner)
        return 0
    runner.run()
    return 1 if runner.failed or runner.open_rows() else 0


def _list(runner: Runner) -> None:
    estimate, rows = Estimate(runner.results.all()), runner.open_rows()
    for row in rows:
        print(f"{row}: about {estimate.seconds(row):.0f} s")
    hours = sum(estimate.seconds(row) for row in rows) / runner.terms.processes / 3600
    print(f"{len(rows)} rows, about {hours:.1f} h with {runner.terms.processes} processes")


def saved_rows(out: Path) -> list[Figures]:
    """What an earlier call wrote; nothing where there is no file.

    Raises:
        DataError: the file holds something else.
    """
    try:
        rows: list[Figures] = json.loads(out.read_text(encoding="utf-8"))["rows"]
        return [row for row in rows if {"set", "variant", "seed", "plan_sha256"} <= row.keys()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{out} is no file of figures that this program wrote; restore it, or give another --out") from None


def save(rows: Sequence[Figures], out: Path, arguments: Sequence[str], date: str) -> None:
    """All finished rows in one file, with the command, versions and machine of the call that wrote it last."""
    document: dict[str, Any] = {
        "schema": 1,
        "command": " ".join(["python", "-m", "benchmarks.learning", *arguments]),
        "date": date,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "rows": list(rows),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, (json.dumps(document, indent=1) + "\n").encode())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("learning-work"), help="folder of unfinished rows and figures")
    parser.add_argument("--out", type=Path, default=Path("docs/results/learning.json"), help="file of all figures, whose rows are kept")
    parser.add_argument("--page", type=Path, default=Path("docs/learning.md"), help="page that --table writes into")
    parser.add_argument("--hours", type=float, default=4.0, help="no row is started that would end later")
    parser.add_argument("--processes", type=int, default=2, help="rows at a time, one thread each")
    parser.add_argument("--only", nargs="*", default=[], help="parts of a row's name that must all occur: banking77, 'seed 0', default")
    parser.add_argument("--date", default="", help="written beside the figures")
    parser.add_argument("--list", action="store_true", help="print the open rows and how long each takes")
    parser.add_argument("--table", action="store_true", help="write the tables from the file of figures")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
