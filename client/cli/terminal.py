"""Records go to a terminal alone: where output is a file or another program, they are left out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from client.dataset import Example
    from model.text.tokenizer import Tokenizer


def show_records(examples: Sequence[Example], tokenizer: Tokenizer) -> None:
    """Prints the first records, or says why it does not."""
    from client.shown_records import shown_records

    if sys.stdout.isatty():
        typer.echo("\n".join(shown_records(examples, tokenizer)))
    else:
        typer.echo("Records are shown on a terminal alone; this output is kept or read by a program.")
