"""`consortium model export`: a released adapter merged into its base."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Precision(StrEnum):
    """Type of the written weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"


def export(
    release: Annotated[Path, typer.Argument(help="A version's directory.")],
    out: Annotated[Path, typer.Argument(help="New directory in Hugging Face's layout.")],
    base: Annotated[Path | None, typer.Option(help="The base's directory, if it is not bundled.")] = None,
    dtype: Annotated[Precision, typer.Option(help="Type of the weights; bfloat16 rounds the merged ones.")] = Precision.float32,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Write the release merged into its base, for transformers and what builds on it."""
    import torch

    from model.export import export_release
    from model.fingerprint import checkpoint_sha256

    export_release(release, out, base, getattr(torch, dtype.value))
    if as_json:
        typer.echo(json.dumps({"schema": 1, "path": str(out), "sha256": checkpoint_sha256(out), "dtype": dtype.value}))
    else:
        typer.echo(f"{out} is complete: from_pretrained of transformers reads it.")
