"""A table's keys as TOML lines, each with its description, so that a file can be read and changed by hand."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel


def commented(table: BaseModel, skip: Collection[str] = ()) -> list[str]:
    """One line a key; a key without a value is shown as a comment, so that the reader sees what there is."""
    lines = []
    for key, field in type(table).model_fields.items():
        value, description = getattr(table, key), field.description
        if key not in skip:
            lines.append(f"# {key} =  # {description}" if value in ("", None) else f"{key} = {quoted(value)}  # {description}")
    return lines


def quoted(value: Any) -> str:
    """A string, number, truth value or list of them as TOML writes it."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
