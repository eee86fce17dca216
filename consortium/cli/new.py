"""`consortium new`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from protocols.plan import Plan

RecordsOption = Annotated[Path | None, typer.Option("--records", metavar="FILE", help="JSONL, CSV or Parquet; its fields are guessed.")]


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plan's name; NAME.toml is written here.")],
    records: RecordsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Write a commented plan, ready for `consortium simulate`."""
    from consortium.new_plan import write_plan
    from protocols.plan import load_plan

    path = write_plan(name, records, Path())
    if as_json:
        typer.echo(json.dumps({"schema": 1, "name": name, "path": str(path)}, ensure_ascii=False))
    else:
        plan = load_plan(path)
        typer.echo(
            f"{path} is written: it learns {plan.records.target!r} after {plan.records.prompt!r}, records divided {_division(plan)}."
        )
        typer.echo(f"Correct it where that is wrong, then: consortium simulate {path}")


def _division(plan: Plan) -> str:
    from protocols.plan import ByField

    rule = plan.simulation.partition if plan.simulation else None
    return f"by field {rule.field}" if isinstance(rule, ByField) else "evenly"
