"""`consortium client fingerprint`."""

from __future__ import annotations

from pathlib import Path

import typer

from client.cli.ledger import InstitutionOption, JsonOption, check_folder, print_json, told


def fingerprint(institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """Show the six words of this institution's identity key, to be read out by telephone. Nothing is asked of anybody."""
    from client.joining import own_fingerprint

    folder = institution or Path()
    with told(as_json):
        check_folder(folder)
        words = own_fingerprint(folder)
    if as_json:
        print_json({"schema": 1, "fingerprint": words})
    else:
        typer.echo(words)
