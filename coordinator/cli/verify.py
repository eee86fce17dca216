"""`consortium coordinator verify [RUN]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.options import JsonOption, RegistryOption, located, opened
from coordinator.cli.printing import print_json

if TYPE_CHECKING:
    from coordinator.verify import Audit

RunToVerify = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's id, or the beginning of it; all runs if left out.")]
ModelsOption = Annotated[Path | None, typer.Option("--models", metavar="DIR", help="Folder of released models; beside the registry.")]


def verify(run: RunToVerify = None, registry: RegistryOption = None, models: ModelsOption = None, as_json: JsonOption = False) -> None:
    """Check the registry and the released files; says what was proved and what could not be."""
    from coordinator.settings import load_settings
    from coordinator.verify import verify_registry

    with opened(registry) as source:
        folder = models or load_settings().models_folder(located(registry))
        audit = verify_registry(source, folder, source.run(run).run if run else None)
    if as_json:
        print_json({"ok": audit.ok, "proved": audit.proved, "failed": audit.failed, "unproved": audit.unproved})
    else:
        _print(audit)
    if not audit.ok:
        raise typer.Exit(1)


def _print(audit: Audit) -> None:
    for title, sentences in (("Proved", audit.proved), ("WRONG", audit.failed), ("Not proved by this registry", audit.unproved)):
        if sentences:
            typer.echo(f"{title}:")
        for sentence in sentences:
            typer.echo(f"  - {sentence}")
