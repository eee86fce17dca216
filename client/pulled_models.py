"""Fetching a released version: into a draft, checked there, and only then under its name in the institution's folder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client.connection import Connection
from client.errors import ServiceRefused
from client.institution import Membership
from client.ledger import Ledger
from client.model_audit import audit_model
from model.release import TENSORS_FILE
from protocols.audit import Audit
from protocols.errors import ReleaseBroken
from protocols.files import make_folder, replace_folder
from protocols.release import MANIFEST, read_manifest
from protocols.service import MODEL_FILE, MODEL_LIST, ModelEntry, ModelFileRequest, ModelListRequest

RELEASED = "released"  # folder of what was pulled; `models` has what was tuned here
REFUSED = "refused-"
MOST_BYTES = 2**26  # of any file but the tensors'
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was fetched, what was found out about it, and where it lies."""

    name: str
    version: int
    folder: Path
    audit: Audit


def list_models(service: Connection, name: str = "") -> tuple[ModelEntry, ...]:
    """Versions that contain this institution's rounds, as the coordinator says: by name, then by number."""
    return service.call(MODEL_LIST, ModelListRequest(name)).versions


def latest(service: Connection, name: str) -> int:
    """The last version of a name that was not withdrawn.

    Raises:
        ServiceRefused: there is none for this institution.
    """
    numbers = [one.version for one in list_models(service, name) if one.name == name and not one.withdrawn_at]
    if not numbers:
        raise ServiceRefused(f"the coordinator has no version of {name!r} for this institution; `consortium client models list` shows them")
    return max(numbers)


def pull_model(service: Connection, institution: Path, membership: Membership, ledger: Ledger, name: str, version: int) -> Pulled:
    """Fetches a version into `released`/NAME/VERSION of an institution's folder, in the place of an earlier copy, if nothing is wrong.

    What is wrong goes to `released`/NAME/refused-VERSION.

    Raises:
        ServiceRefused: the coordinator does not give it, with its reason. ReleaseBroken: it is not the version that was asked for.
    """
    if not _NAME.fullmatch(name) or version < 1:
        raise ReleaseBroken(f"{name[:64]!r} {version} names no model; `consortium client models list` shows their names")
    folder = institution / RELEASED / name / str(version)
    draft = folder.with_name(f".{version}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    make_folder(draft, 0o700)
    try:
        _fetch_all(service, draft, name, version)
        audit = audit_model(draft, membership, ledger)
        place = folder if audit.ok else folder.with_name(f"{REFUSED}{version}")  # what the coordinator signed is evidence
        replace_folder(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Pulled(name, version, place, audit)


def _fetch_all(service: Connection, draft: Path, name: str, version: int) -> None:
    _fetch(service, draft, ModelFileRequest(name, version, MANIFEST))
    manifest = read_manifest(draft / MANIFEST)
    if (manifest.get("name"), manifest.get("version")) != (name, version):
        raise ReleaseBroken(f"the coordinator sent the manifest of another version than {name} {version}; ask the operator why")
    for file in sorted(manifest["files"]):
        _fetch(service, draft, ModelFileRequest(name, version, file))


def _fetch(service: Connection, draft: Path, asked: ModelFileRequest) -> None:
    path = draft / asked.file
    with path.open("xb") as file:
        for content in _bounded(service, asked):
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _bounded(service: Connection, asked: ModelFileRequest) -> Iterator[bytes]:
    """The file's bytes, as they come."""
    received = 0
    for chunk in service.stream(MODEL_FILE, asked):
        received += len(chunk.content)
        if asked.file != TENSORS_FILE and received > MOST_BYTES:
            raise ReleaseBroken(f"{asked.file} of {asked.name} {asked.version} is longer than {MOST_BYTES:,} bytes; ask the operator why")
        yield chunk.content
