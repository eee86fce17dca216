"""`consortium model import`: a checkpoint's tiktoken.model as the tokenizer.json that everything else reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def import_(
    path: Annotated[Path, typer.Argument(help="Directory of a checkpoint of Moonlight or Kimi, with tiktoken.model.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Write tokenizer.json beside tiktoken.model, compared with it token for token; no code of the checkpoint is run."""
    from model.text.moonshot.importing import import_tokenizer

    _check(path)
    imported = import_tokenizer(path)
    facts = {
        "path": str(imported.path),
        "written": imported.written,
        "vocab_size": imported.vocab_size,
        "texts": imported.texts,
        "tokens": imported.tokens,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    state = "is written" if imported.written else "was there already, and is equal"
    typer.echo(f"{imported.path} {state}: a vocabulary of {imported.vocab_size:,}.")
    typer.echo(f"It gives tiktoken's tokens for all of {imported.texts:,} texts, {imported.tokens:,} tokens.")


def _check(path: Path) -> None:
    """Refuses a path that has nothing to import."""
    from model.errors import TokenizerError

    if not path.is_dir():
        raise TokenizerError(f"{path} is no directory: give that of a checkpoint.")
    if (path / "tokenizer.json").is_file() and not (path / "tiktoken.model").exists():
        raise TokenizerError(f"{path} has a tokenizer.json already: nothing to import.")
