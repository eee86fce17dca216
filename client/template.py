"""Templates of a plan: `{field}`, `{{` and `}}` alone. No attribute, index, conversion or format can be asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from client.errors import RecordError

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_FIELD = re.compile(r"[^\s.!:\[\](){}'\"]([^.!:\[\](){}'\"\n]*[^\s.!:\[\](){}'\"])?")


@dataclass(frozen=True, slots=True)
class Template:
    """Literal texts and field names in turn: texts[0], fields[0], texts[1], ..., texts[-1]."""

    texts: tuple[str, ...]
    fields: tuple[str, ...]

    def render(self, values: Mapping[str, str]) -> str:
        """The text with every field's value put in as it is: braces in a value mean nothing."""
        parts = [self.texts[0]]
        for field, text in zip(self.fields, self.texts[1:], strict=True):
            parts += [values[field], text]
        return "".join(parts)


def parse_template(text: str, where: str) -> Template:
    """Reads a template; `where` names it in errors, say records.prompt.

    Raises:
        RecordError: a single brace, or more than a field's name between braces.
    """
    texts, fields = [""], []
    for part in _PART.finditer(text):
        token, name = part[0], part[1]
        if name is not None:
            fields.append(_checked(name, where))
            texts.append("")
        elif token in ("{", "}"):
            raise RecordError(f"{where} has a single {token} at character {part.start() + 1}; write {token}{token} for the brace itself")
        else:
            texts[-1] += {"{{": "{", "}}": "}"}.get(token, token)
    return Template(tuple(texts), tuple(fields))


def is_field(name: str) -> bool:
    """Whether a record's field of this name can stand between braces."""
    return _FIELD.fullmatch(name) is not None


def _checked(name: str, where: str) -> str:
    if not is_field(name):
        raise RecordError(f"{where} asks for {{{name}}}, but only a field's name may stand between braces; nothing more is done")
    return name
