"""`consortium coordinator models list`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.options import HomeToRead, JsonOption, RegistryOption, located, opened
from coordinator.cli.printing import figure, moment, print_json, print_table, timestamp

if TYPE_CHECKING:
    from coordinator.registry.records import ModelVersion
    from coordinator.registry.registry import Registry
    from protocols.privacy.statement import Statement

COLUMNS = ("model", "version", "run", "metric", "privacy", "released (UTC)")
InstitutionOption = Annotated[
    str | None, typer.Option("--institution", metavar="NAME", help="Only versions that contain rounds of this institution.")
]


def list_models(
    registry: RegistryOption = None, home: HomeToRead = None, institution: InstitutionOption = None, as_json: JsonOption = False
) -> None:
    """List released model versions, with a mark on those that were withdrawn or contain rounds of an institution that withdrew."""
    with opened(located(registry, home)) as source:
        found = source.model_versions() if institution is None else source.models_with(institution)
        listed = [(version, *_looked_up(source, version)) for version in found]
    if as_json:
        print_json({"models": [_document(*one) for one in listed]})
        return
    print_table("Models", COLUMNS, [_row(version, promise) for version, promise, _ in listed], whole=("run",))
    for one in listed:
        for sentence in _sentences(*one):
            typer.echo(f"{one[0].name} {one[0].version}: {sentence}")


def _looked_up(source: Registry, version: ModelVersion) -> tuple[Statement | None, tuple[str, ...]]:
    """What the run promised of privacy, and who withdrew."""
    from coordinator.lineage import withdrew
    from coordinator.submitted_plan import promise_of

    return promise_of(source.run(version.run)), withdrew(source, version.run)


def _row(version: ModelVersion, promise: Statement | None) -> tuple[str, ...]:
    privacy = promise.short if promise else "no noise"
    return version.name, str(version.version), version.run, figure(version.metric), privacy, moment(version.released_at)


def _sentences(version: ModelVersion, promise: Statement | None, gone: tuple[str, ...]) -> Iterator[str]:
    """What does not fit into the table: the promise in full, and the marks."""
    if promise is not None:
        yield f"training was {promise}."
    if version.withdrawn_at is not None:
        yield f"withdrawn ({version.withdrawn_reason})."
    if gone:
        yield f"{', '.join(gone)} withdrew from its run."


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
