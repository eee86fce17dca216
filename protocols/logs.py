"""Logs as JSON lines: when, how grave, which process, about which run, round and institution; never a record or a key.

Errors of ours are told by their sentences. Of any other, whose text may quote whatever it stumbled over, a line has the kind and the place
in the code; of other packages' messages it has the place alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from protocols.errors import ConsortiumError

Kinds = tuple[type[Exception], ...]
OURS = "consortium"  # the logger above all of ours
FIELDS = ("run", "round", "institution", "event")
_context: ContextVar[Mapping[str, object] | None] = ContextVar("what log lines are about", default=None)


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Lines that are logged inside, in this thread, carry these of FIELDS too."""
    before = _context.set({**(_context.get() or {}), **fields})
    try:
        yield
    finally:
        _context.reset(before)


class Lines(logging.Formatter):
    """A record's parts. `spoken` are the kinds of error whose texts hold no record and no key; `fields` hold for every line."""

    def __init__(
        self, component: str, spoken: tuple[type[Exception], ...] = (ConsortiumError,), fields: Mapping[str, object] | None = None
    ) -> None:
        super().__init__()
        self._component = component
        self._spoken = spoken
        self._fields = fields or {}

    def parts(self, record: logging.LogRecord) -> dict[str, object]:
        """The keys of a line, in their order; of FIELDS those that are known."""
        known = {**self._fields, **(_context.get() or {}), **{name: getattr(record, name) for name in FIELDS if hasattr(record, name)}}
        return {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "component": self._component,
            **{name: known[name] for name in FIELDS if known.get(name) is not None},
            "sentence": self._sentence(record),
        }

    def _sentence(self, record: logging.LogRecord) -> str:
        place = f"{record.name} at {record.filename}:{record.lineno}"
        if record.name != OURS and not record.name.startswith(f"{OURS}."):
            return place
        given = record.args if isinstance(record.args, tuple) else ()
        said = str(record.msg) % tuple(self._told(one) for one in given) if given else str(record.msg)
        failed = record.exc_info[1] if record.exc_info else None
        return (
            f"{said} [{place_of(failed)}]" if failed is not None and failed not in given and not isinstance(failed, self._spoken) else said
        )

    def _told(self, value: object) -> object:
        if not isinstance(value, BaseException) or isinstance(value, self._spoken):
            return value
        if isinstance(value, OSError) and value.strerror:
            return f"{value.filename or 'a file'}: {value.strerror}"
        return place_of(value)


class JsonLines(Lines):
    """A line for programs."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.parts(record), ensure_ascii=False)


class PlainLines(Lines):
    """A line for somebody at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        parts = self.parts(record)
        return f"{str(parts['time'])[11:19]} {parts['sentence']}"


def write_logs(
    component: str, stream: TextIO, spoken: tuple[type[Exception], ...] = (ConsortiumError,), **fields: object
) -> logging.Logger:
    """Sends every log line of this process to `stream`, as JSON unless that is a terminal; other packages' from warnings on.

    Returns the logger for what the process itself has to say.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter((PlainLines if stream.isatty() else JsonLines)(component, spoken, fields))
    root, own, flower = logging.getLogger(), logging.getLogger(OURS), logging.getLogger("flwr")
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    flower.handlers, flower.propagate = [], True  # which writes its own lines to standard error
    own.setLevel(logging.INFO)
    return own.getChild(component.replace(" ", "-"))


def place_of(error: BaseException) -> str:
    """The kind of an error and the line that raised it, without its text."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "an unknown line"
    return f"{type(error).__name__} at {place}"
