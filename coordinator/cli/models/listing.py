"""`consortium coordinator models list`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.options import JsonOption, RegistryOption, opened
from coordinator.cli.printing import figure, moment, print_json, print_table, timestamp

if TYPE_CHECKING:
    from coordinator.registry.records import ModelVersion
    from coordinator.registry.registry import Registry
    from protocols.privacy.statement import Statement

COLUMNS = ("model", "version", "run", "metric", "privacy", "released (UTC)", "path", "marks")
InstitutionOption = Annotated[
    str | None, typer.Option("--institution", metavar="NAME", help="Only versions that contain rounds of this institution.")
]


def list_models(registry: RegistryOption = None, institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """List released model versions, with a mark on those that were withdrawn or contain rounds of an institution that withdrew."""
    with opened(registry) as source:
        found = source.model_versions() if institution is None else source.models_with(institution)
        listed = [(version, *_looked_up(source, version)) for version in found]
    if as_json:
        print_json({"models": [_document(*one) for one in listed]})
        return
    print_table("Models", COLUMNS, [_row(*one) for one in listed])
    for version, promise, _ in listed:
        if promise is not None:
            typer.echo(f"{version.name} {version.version}: training was {promise}.")


def _looked_up(source: Registry, version: ModelVersion) -> tuple[Statement | None, tuple[str, ...]]:
    """What the run promised of privacy, and who withdrew."""
    from coordinator.lineage import withdrew
    from coordinator.submitted_plan import promise_of

    return promise_of(source.run(version.run)), withdrew(source, version.run)


def _row(version: ModelVersion, promise: Statement | None, gone: tuple[str, ...]) -> tuple[str, ...]:
    privacy = promise.short if promise else "no noise"
    marks = [*(["withdrawn"] if version.withdrawn_at else []), *(f"{name} withdrew" for name in gone)]
    released = moment(version.released_at)
    return version.name, str(version.version), version.run, figure(version.metric), privacy, released, version.path, ", ".join(marks)


def _document(version: ModelVersion, promise: Statement | None, gone: tuple[str, ...]) -> dict[str, Any]:
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
        "withdrawn_at": timestamp(version.withdrawn_at),
        "withdrawn_reason": version.withdrawn_reason,
        "withdrawn_institutions": list(gone),
    }
