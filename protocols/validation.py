"""One sentence from a pydantic error: which field of which document is wrong, and what it should be."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of `error`, naming the field by its dotted path; the value itself is never repeated."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    path = [str(part) for part in problem["loc"]]
    field = ".".join(part for part in path if not part[:1].isupper()) or "the document"
    if problem["type"] == "extra_forbidden":
        return f"{field} is not a known key{_suggestion(path, model)}"
    if problem["type"] == "missing":
        return f"{field} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "literal_error":
        message = message.replace("True", "true").replace("False", "false")  # as TOML writes them
    return f"{field}: {message[:1].lower()}{message[1:]}"


def _suggestion(path: list[str], model: type[BaseModel]) -> str:
    known = _keys_at(path[:-1], model)
    close = difflib.get_close_matches(path[-1], known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}" if known else ""


def _keys_at(path: list[str], model: type[BaseModel]) -> list[str]:
    """The keys of the table at `path`; where a key may hold several tables, the table's class follows it in the path."""
    here: list[type[BaseModel]] = [model]
    for part in path:
        field = here[0].model_fields.get(part) if here else None
        here = [table for table in here if table.__name__ == part] if part[:1].isupper() else _tables(field.annotation) if field else []
    return [field.alias or name for name, field in here[0].model_fields.items()] if here else []


def _tables(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for part in get_args(annotation) for table in _tables(part)]
