"""The signed manifest of a model version: hashes of all its files, and where it came from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocols.errors import ReleaseBroken, SignatureError
from protocols.identity import Identity, verify

MANIFEST = "manifest.json"
_PURPOSE = b"consortium model manifest 1\0"
_CHUNK = 1 << 20
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def sign_manifest(content: Mapping[str, Any], identity: Identity) -> bytes:
    """The bytes of `manifest.json`: the content, the signer, and an Ed25519 signature over both."""
    signed = {**content, "signer": {"name": identity.name, "public_key": identity.public_key.hex()}}
    signature = identity.sign(_signed_bytes(signed)).hex()
    return (json.dumps({**signed, "signature": signature}, indent=2, sort_keys=True) + "\n").encode()


def verify_release(path: Path, public_key: bytes) -> dict[str, Any]:
    """Checks signature and every file of a model version; returns the manifest.

    Raises:
        ReleaseBroken: naming the first file that is missing, changed or added, or the signature.
    """
    manifest = read_manifest(path / MANIFEST)
    _check_signature(manifest, public_key, path)
    present = {file.name for file in path.iterdir()} - {MANIFEST}
    for name in sorted(present ^ manifest["files"].keys()):
        fault = "was added after the release" if name in present else "is missing"
        raise ReleaseBroken(f"{path / name}: {fault}; get this model from its source again")
    for name, digest in manifest["files"].items():
        if file_sha256(path / name) != digest:
            raise ReleaseBroken(f"{path / name}: changed after the release; get this model from its source again")
    return manifest


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest's content, whose signature nobody has checked yet.

    Raises:
        ReleaseBroken: it is no manifest of a model version.
    """
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        bytes.fromhex(manifest["signature"])
        _signed_bytes(manifest)
        for name, digest in manifest["files"].items():
            if not _FILE.fullmatch(name) or name == MANIFEST or not isinstance(digest, str):
                raise ValueError("a file outside of the folder, or without a hash")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ReleaseBroken(
            f"{path}: no readable manifest of a model version; name the folder of one version, or get it from its source again"
        ) from None
    return manifest


def _check_signature(manifest: dict[str, Any], public_key: bytes, path: Path) -> None:
    content = {name: value for name, value in manifest.items() if name != "signature"}
    try:
        verify(public_key, _signed_bytes(content), bytes.fromhex(manifest["signature"]))
    except SignatureError:
        raise ReleaseBroken(f"{path / MANIFEST}: not signed by the key expected; get this model from its source again") from None


def _signed_bytes(content: Mapping[str, Any]) -> bytes:
    return _PURPOSE + json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
