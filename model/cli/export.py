"""`consortium model export`: a released adapter merged into its base, or alone in peft's layout."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer


class Precision(StrEnum):
    """Type of the written weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"


def export(
    release: Annotated[Path, typer.Argument(help="A version's directory, or one that holds a peft adapter.")],
    out: Annotated[Path, typer.Argument(help="New directory in Hugging Face's layout.")],
    base: Annotated[Path | None, typer.Option(help="The base's directory, if it is not bundled; a peft adapter needs it.")] = None,
    dtype: Annotated[Precision, typer.Option(help="Type of the weights; bfloat16 rounds the merged ones.")] = Precision.float32,
    adapter: Annotated[bool, typer.Option("--adapter", help="The adapter alone, in float32, as peft loads it onto the base.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Write the release merged into its base, for transformers and what builds on it; or its adapter alone, for peft."""
    if adapter and dtype is not Precision.float32:
        raise typer.BadParameter("--dtype is for merged weights, and an adapter alone is written in float32: leave one of the two out.")
    facts, sentences = _adapter_alone(release, out, base) if adapter else _merged(release, out, base, dtype)
    facts = {"schema": 1, "path": str(out), **facts}
    typer.echo(json.dumps(facts) if as_json else "\n".join(sentences))


Outcome: TypeAlias = tuple[dict[str, Any], list[str]]  # for --json, and for reading


def _merged(release: Path, out: Path, base: Path | None, dtype: Precision) -> Outcome:
    import torch

    from model.checkpoint.fingerprint import checkpoint_sha256
    from model.export import export_release

    export_release(release, out, base, getattr(torch, dtype.value))
    facts = {"sha256": checkpoint_sha256(out), "dtype": dtype.value}
    return facts, [f"{out} is complete: from_pretrained of transformers reads it."]


def _adapter_alone(release: Path, out: Path, base: Path | None) -> Outcome:
    from model.export import export_adapter
    from model.peft.files import TENSOR_FILE

    written = export_adapter(release, out, base)
    sentences = [f"{out} is complete: PeftModel.from_pretrained loads it onto the base."]
    if written.left_out:
        sentences.append(f"{len(written.left_out)} tensors of multi-token prediction are left out: transformers does not build it.")
    if written.shares_head:
        sentences.append("Do not merge it by peft: the head is the embedding too, which would change; export the merged model here.")
    digest = hashlib.sha256((out / TENSOR_FILE).read_bytes()).hexdigest()
    return {"sha256": digest, "dtype": "float32", "left_out": list(written.left_out), "mergeable": not written.shares_head}, sentences
