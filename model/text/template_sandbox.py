"""Jinja templates from outside, run where they reach no file, clock or randomness, change no value and end.

Steps are counted, and what comes of one is bounded, so that a short template cannot work or grow without end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, NoReturn, cast

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_CHARACTERS = 1 << 24  # that one rendering may write, and one step give
MAX_STEPS = 100_000  # turns of loops and calls in one rendering
_PADDING = frozenset({"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill"})  # methods of text that take a width
_STEPS, _CHECKED = "steps left", "checked size"  # no template can spell these names


def compile_template(source: str) -> Template:
    """A template with the settings and additions that transformers gives chat templates.

    Raises:
        Exception: a syntax error, or whatever else Jinja and Python make of such a source.
    """
    # Optimised, it would be evaluated in part while it is compiled.
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], optimized=False)
    environment.filters |= {"tojson": _to_json, _STEPS: _counted, _CHECKED: _checked}
    for name in ("random", "center", "format"):
        del environment.filters[name]
    del environment.globals["lipsum"]
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _no_clock}
    return environment.from_string(_Bounded().visit(environment.parse(source)))


def run_template(template: Template, values: Mapping[str, Any]) -> str:
    """The text that a template makes of `values`.

    Raises:
        SecurityError: it reaches for what the sandbox keeps, or goes on beyond the limits.
        Exception: any other; a template may raise whatever Python's operators do.
    """
    pieces, length, steps = [], 0, _Steps()
    for piece in template.generate(dict(values) | {_STEPS: steps}):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_CHARACTERS:
            raise SecurityError(f"it writes more than {MAX_CHARACTERS} characters")
    return "".join(pieces)


class _Steps:
    """What is left of MAX_STEPS in one rendering."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise SecurityError(f"it takes more than {MAX_STEPS} steps")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's own sandbox, with calls counted and operators kept from making the immense of the small."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        context.parent[_STEPS].take()
        return _checked(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if _is_immense(operator, left, right):
            raise SecurityError(f"it makes too much by {operator}")
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _PADDING and super().is_safe_attribute(obj, attr, value)


def _is_immense(operator: str, left: Any, right: Any) -> bool:
    if operator == "%" and isinstance(left, str):
        return re.search(r"\*|\d{4}", left) is not None  # a width
    repeated = any(isinstance(a, Sized) and isinstance(b, int) and len(a) * b > MAX_CHARACTERS for a, b in ((left, right), (right, left)))
    huge = any(isinstance(number, int) and abs(number) >= 2**63 for number in (left, right))
    return repeated or huge or (operator == "**" and isinstance(right, int) and right > 64)


class _Bounded(NodeTransformer):
    """Puts a count into every loop, and a check behind whatever joins texts."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        if node.recursive:
            raise SecurityError("it has a recursive loop")
        self.generic_visit(node)
        node.iter = _filtered(cast(nodes.Expr, node.iter), _STEPS)
        return node

    def visit_Filter(self, node: nodes.Expr) -> nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, _CHECKED)

    visit_Concat = visit_Add = visit_Filter  # noqa: N815


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=node.environment)


def _checked(value: Any) -> Any:
    if isinstance(value, str | list | tuple) and len(value) > MAX_CHARACTERS:
        raise SecurityError(f"it makes more than {MAX_CHARACTERS} characters at once")
    return value


@pass_context
def _counted(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    steps = context.parent[_STEPS]
    for item in items:
        steps.take()
        yield item


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(str(message))


def _no_clock(_format: str) -> NoReturn:
    raise SecurityError("it asks for the date, and the same chat has to give the same text on every day")
