"""`consortium new`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

RecordsOption = Annotated[Path | None, typer.Option("--records", metavar="FILE", help="JSONL, CSV or Parquet; its fields are guessed.")]


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plan's name; NAME.toml is written here.")],
    records: RecordsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Write a commented plan, ready for `consortium simulate`."""
    from consortium.new_plan import write_plan

    path = write_plan(name, records, Path())
    if as_json:
        typer.echo(json.dumps({"schema": 1, "name": name, "path": str(path)}, ensure_ascii=False))
    else:
        typer.echo(f"{path} is written; read its comments, then: consortium simulate {path}")
