"""Jinja templates from outside, run where they reach no file, clock or randomness, change no value and end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from jinja2 import Template, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_CHARACTERS = 1 << 24  # that one rendering may write
MAX_STEPS = 100_000  # numbers that one rendering may take from range()


def compile_template(source: str) -> Template:
    """A template with the settings and additions that transformers gives chat templates.

    Raises:
        TemplateError: a syntax error.
    """
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = _to_json
    del environment.filters["random"], environment.globals["lipsum"]
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _no_clock
    return environment.from_string(source)


def run_template(template: Template, values: Mapping[str, Any]) -> str:
    """The text that a template makes of `values`.

    Raises:
        SecurityError: it reaches for what the sandbox keeps, or goes on beyond the limits.
        Exception: any other; a template may raise whatever Python's operators do.
    """
    pieces, length = [], 0
    for piece in template.generate({"range": _counted_range()} | dict(values)):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_CHARACTERS:
            raise SecurityError(f"it writes more than {MAX_CHARACTERS} characters")
    return "".join(pieces)


def _counted_range() -> Callable[..., range]:
    """`range` whose numbers are limited over all calls: Jinja's own limit is one for each, and calls can be nested."""
    left = MAX_STEPS

    def counted(*bounds: int) -> range:
        nonlocal left
        numbers = range(*bounds)
        left -= min(len(numbers), MAX_STEPS + 1)
        if left < 0:
            raise SecurityError(f"it counts further than {MAX_STEPS}")
        return numbers

    return counted


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(str(message))


def _no_clock(_format: str) -> NoReturn:
    raise SecurityError("it asks for the date, and the same chat has to give the same text on every day")
