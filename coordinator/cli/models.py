"""`consortium coordinator models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator.cli.options import JsonOption, RegistryOption, opened
from coordinator.cli.printing import figure, moment, print_json, print_table, timestamp

if TYPE_CHECKING:
    from coordinator.registry.records import ModelVersion

COLUMNS = ("model", "version", "run", "metric", "released (UTC)", "path")


def models(registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """List released model versions."""
    with opened(registry) as source:
        found = source.model_versions()
    if as_json:
        print_json({"models": [_document(version) for version in found]})
    else:
        print_table("Models", COLUMNS, [_row(version) for version in found])


def _row(version: ModelVersion) -> tuple[str, ...]:
    return version.name, str(version.version), version.run, figure(version.metric), moment(version.released_at), version.path


def _document(version: ModelVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "run": version.run,
        "path": version.path,
        "metric": version.metric,
        "manifest_sha256": version.manifest_sha256,
        "transcript_sha256": version.transcript_sha256,
        "signer": version.signer,
        "released_at": timestamp(version.released_at),
    }
