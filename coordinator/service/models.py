"""ModelList and ModelFile: an institution gets the versions that contain its own rounds, unless they were withdrawn."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from coordinator.errors import RegistryError, ReleaseRefused
from coordinator.service.served import Member, Resources, Served
from protocols.release import MANIFEST, read_manifest
from protocols.service import (
    CHUNK,
    MODEL_FILE,
    MODEL_LIST,
    FileChunk,
    ModelEntry,
    ModelFileRequest,
    ModelList,
    ModelListRequest,
)

if TYPE_CHECKING:
    from coordinator.registry.records import ModelVersion


def _list(at: Resources, caller: Member, request: ModelListRequest) -> ModelList:
    found = at.registry.models_with(caller.name)
    return ModelList(tuple(_entry(version) for version in found if request.name in ("", version.name)))


def _file(at: Resources, caller: Member, request: ModelFileRequest) -> Iterator[FileChunk]:
    folder = at.models / _given_out(at, caller, request).path
    if request.file != MANIFEST and request.file not in read_manifest(folder / MANIFEST)["files"]:
        raise ReleaseRefused(f"model {request.name[:64]} {request.version} has no file of this name; its manifest lists them")
    with (folder / request.file).open("rb") as file:
        while content := file.read(CHUNK):
            yield FileChunk(content)


def _given_out(at: Resources, caller: Member, request: ModelFileRequest) -> ModelVersion:
    for version in at.registry.models_with(caller.name):
        if (version.name, version.version) == (request.name, request.version):
            if version.withdrawn_at is not None:
                raise ReleaseRefused(f"model {version.name} {version.version} was withdrawn by the operator: {version.withdrawn_reason}")
            return version
    raise RegistryError(f"no model {request.name[:64]!r} {request.version} contains rounds of {caller.name}; list those that do")


def _entry(version: ModelVersion) -> ModelEntry:
    times = (_written(version.released_at), _written(version.withdrawn_at))
    return ModelEntry(version.name, version.version, version.run, version.manifest_sha256, *times, version.withdrawn_reason)


def _written(at: datetime | None) -> str:
    return "" if at is None else at.isoformat(timespec="seconds")


MODELS = (Served(MODEL_LIST, (Member,), _list), Served(MODEL_FILE, (Member,), _file))
