"""One sentence from a pydantic error: which field of which document is wrong, and what it should be."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of `error`, naming the field by its dotted path; the value itself is never repeated."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    path = [str(part) for part in problem["loc"] if not str(part)[:1].isupper()]
    field = ".".join(path) or "the document"
    if problem["type"] == "extra_forbidden":
        return f"{field} is not a known key{_suggestion(path, model)}"
    if problem["type"] == "missing":
        return f"{field} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}: {message[:1].lower()}{message[1:]}"


def _suggestion(path: list[str], model: type[BaseModel]) -> str:
    known = _keys_at(path[:-1], model)
    close = difflib.get_close_matches(path[-1], known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}" if known else ""


def _keys_at(path: list[str], model: type[BaseModel]) -> list[str]:
    here: type[BaseModel] | None = model
    for part in path:
        field = here.model_fields.get(part) if here else None
        here = _table(field.annotation) if field else None
    return [field.alias or name for name, field in here.model_fields.items()] if here else []


def _table(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *get_args(annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
