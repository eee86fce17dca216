"""What a terminal is shown: records nowhere else, and of what others wrote nothing that a terminal would obey."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from client.dataset import Example
    from model.text.tokenizer import Tokenizer


def echo_lines(lines: Iterable[str]) -> None:
    """Prints lines in which the coordinator may have written something: words to be compared must be those that were computed here."""
    typer.echo("\n".join(map(plain, lines)))


def plain(line: str) -> str:
    """The line with escapes in the place of what is not printable: colours, movements of the cursor, changes of direction, new lines."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)


def show_records(examples: Sequence[Example], tokenizer: Tokenizer) -> None:
    """Prints the first records, or says why it does not."""
    from client.shown_records import shown_records

    if sys.stdout.isatty():
        typer.echo("\n".join(shown_records(examples, tokenizer)))
    else:
        typer.echo("Records are shown on a terminal alone; this output is kept or read by a program.")
