"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import typer


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps({"schema": 1, **document}, indent=2, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], whole: Collection[str] = ()) -> None:
    """A table as wide as the terminal; without rows, the title says so. Cells are text, never markup.

    The first column is what other commands ask for, so it is never cut; a column without any text is left out.

    Args:
        whole: further columns that are never cut, such as words that a person compares.
    """
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console()
    if not rows:
        console.print(Text(f"{title}: none"))
        return
    kept = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    table = Table(
        *(Column(columns[place], no_wrap=place == 0 or columns[place] in whole) for place in kept), title=title, title_justify="left"
    )
    for row in rows:
        table.add_row(*(Text(row[place]) for place in kept))
    console.print(table)


def figure(value: float | None) -> str:
    """A metric or loss with four digits, or a dash."""
    return "-" if value is None else f"{value:.4f}"


def megabytes(count: int) -> str:
    """Bytes in megabytes, without the unit."""
    return f"{count / 1e6:.1f}"


def day(value: datetime | None) -> str:
    """A day in UTC, or a dash."""
    return "-" if value is None else value.strftime("%Y-%m-%d")


def moment(value: datetime | None) -> str:
    """A time in UTC to the minute, or a dash."""
    return "-" if value is None else value.strftime("%Y-%m-%d %H:%M")


def timestamp(value: datetime | None) -> str | None:
    """A time for programs: ISO 8601."""
    return None if value is None else value.isoformat()
