"""`consortium coordinator models`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from coordinator.cli.options import JsonOption, RegistryOption, opened
from coordinator.cli.printing import figure, moment, print_json, print_table, timestamp

if TYPE_CHECKING:
    from coordinator.registry.records import ModelVersion
    from protocols.privacy.statement import Statement

COLUMNS = ("model", "version", "run", "metric", "privacy", "released (UTC)", "path")


def models(registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """List released model versions."""
    from coordinator.submitted_plan import promise_of

    with opened(registry) as source:
        found = source.model_versions()
        promises = {version.run: promise_of(source.run(version.run)) for version in found}
    if as_json:
        print_json({"models": [_document(version, promises[version.run]) for version in found]})
    else:
        print_table("Models", COLUMNS, [_row(version, promises[version.run]) for version in found])
        for version in found:
            if (promise := promises[version.run]) is not None:
                typer.echo(f"{version.name} {version.version}: training was {promise}.")


def _row(version: ModelVersion, promise: Statement | None) -> tuple[str, ...]:
    privacy = promise.short if promise else "no noise"
    return version.name, str(version.version), version.run, figure(version.metric), privacy, moment(version.released_at), version.path


def _document(version: ModelVersion, promise: Statement | None) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "run": version.run,
        "path": version.path,
        "metric": version.metric,
        "privacy": asdict(promise) if promise else None,
        "manifest_sha256": version.manifest_sha256,
        "transcript_sha256": version.transcript_sha256,
        "signer": version.signer,
        "released_at": timestamp(version.released_at),
    }
