"""The bundle that a Flower run is started with, made of the installed packages, so that one hash names the code of both sides."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from protocols.errors import BundleError

PACKAGES = ("client", "coordinator", "model", "protocols")
MOST_BYTES = 10 * 2**20  # what Flower's server takes
_EPOCH = (2024, 10, 1, 0, 0, 0)
_DESCRIPTION = """\
[project]
name = "consortium"
version = "1"
description = "Known by the SHA-256 of the bundle alone."
license = "Apache-2.0"
dependencies = ["flwr==1.41.0"]

[tool.flwr.app]
publisher = "consortium"

[tool.flwr.app.components]
serverapp = "coordinator.server_app:app"
clientapp = "client.client_app:app"
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A Flower App Bundle (a ZIP file) and the lower-case hexadecimal SHA-256 of its bytes."""

    content: bytes
    sha256: str


def installed_bundle() -> Bundle:
    """The bundle of this installation: the same bytes wherever the same version is installed, from a wheel or a checkout.

    Nodes compare its hash with that of their own and never unpack it: what they run is installed already.

    Raises:
        BundleError: a package is not installed, or the bundle is more than Flower takes.
    """
    buffer = io.BytesIO()
    # Stored, as compressed bytes differ between builds of zlib.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as packed:
        _add(packed, "pyproject.toml", _DESCRIPTION.encode())
        for name, path in _modules():
            _add(packed, name, path.read_bytes())
    content = buffer.getvalue()
    if len(content) > MOST_BYTES:
        raise BundleError(
            f"the installed packages make a bundle of {len(content)} bytes and Flower takes {MOST_BYTES}; remove other modules"
        )
    return Bundle(content, hashlib.sha256(content).hexdigest())


def _modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        found = find_spec(package)  # finds a top-level package without importing it
        if found is None or not found.submodule_search_locations:
            raise BundleError(f"the package {package} is not installed; install consortium as a whole")
        folder = Path(found.submodule_search_locations[0])
        names = {f"{package}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*.py")}
        yield from sorted(names.items())


def _add(packed: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Unix, wherever it is made
    packed.writestr(entry, content)
