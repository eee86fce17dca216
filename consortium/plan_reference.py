"""The table of a plan's keys and defaults, generated from the model that reads plans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from protocols.plan import Base, Plan, Privacy, RecordTemplates, Simulation

HEAD = """# The plan

A TOML file. An unknown key is an error that names it. Only `name`, `base` and `[records]` are required. Without
`[privacy]` no noise is added, and the report says so. This table is generated
(`python -P -m consortium.plan_reference`) and a test compares it.

| key | default | meaning |
|---|---|---|
"""
REQUIRED_TABLES: dict[str, type[BaseModel]] = {"base": Base, "records": RecordTemplates, "privacy": Privacy, "simulation": Simulation}


def plan_reference() -> str:
    """The page in Markdown."""
    return HEAD + table_lines(Plan)


def table_lines(model: type[BaseModel]) -> str:
    """A line of a Markdown table for every key."""
    return "".join(f"| `{key}` | {default} | {meaning} |\n" for key, default, meaning in key_rows(model))


def key_rows(table: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning of everything in a table, those of tables in it after their names."""
    for name, field in table.model_fields.items():
        key = prefix + (field.alias or name)
        inner = REQUIRED_TABLES.get(key) or (type(field.default) if isinstance(field.default, BaseModel) else None)
        if inner is not None and key != "simulation.partition":
            yield from key_rows(inner, f"{key}.")
        else:
            yield key, _default(field.get_default(call_default_factory=True)), (field.description or "").replace("|", "or")


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "absent"
    plain = value.model_dump() if isinstance(value, BaseModel) else value
    return f"`{json.dumps(plain)}`"


if __name__ == "__main__":
    print(plan_reference(), end="")
