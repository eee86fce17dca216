"""An institution's upload on the coordinator's disk: parts are appended as they arrive, and count when all of them are verified."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from protocols.errors import ProtocolError
from protocols.files import make_folder, write_file
from protocols.lanes import LaneFormat
from protocols.merkle import HASH_BYTES, leaf_hash
from protocols.roster import Roster
from protocols.secagg import CheckedUpload, SumManifest, UploadRoot, check_root, check_upload, chunks_of, parts_of


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """The chunks of one upload, read as they are needed."""

    path: Path
    lanes: LaneFormat

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            for chunk in range(self.lanes.chunks):
                yield file.read(self.lanes.chunk_bytes(chunk))

    def chunk(self, number: int) -> bytes:
        """One chunk."""
        with self.path.open("rb") as file:
            file.seek(self.lanes.offset(number))
            return file.read(self.lanes.chunk_bytes(number))


@dataclass(slots=True)
class Spool:
    """Files of one upload: `spool` grows; `leaves` and then `root` are written once it is complete, verified and on disk."""

    folder: Path
    manifest: SumManifest
    roster: Roster
    root: UploadRoot | None = None
    leaves: list[bytes] = field(default_factory=list)
    parts: int = 0

    def begin(self, root: UploadRoot) -> None:
        """Starts afresh with what the sender signed.

        Raises:
            SignatureError: it did not sign this for the manifest.
        """
        check_root(self.manifest, self.roster, root)
        make_folder(self.folder)
        self._file.path.write_bytes(b"")
        self.root, self.leaves, self.parts = root, [], 0

    def append(self, data: memoryview) -> None:
        """Adds the next part.

        Raises:
            ProtocolError, EncodingError: it is not the written lanes that come next; nothing is added.
        """
        lanes, chunks = self.manifest.lanes, chunks_of(self.manifest.lanes, self.parts)
        if not chunks or len(data) != sum(map(lanes.chunk_bytes, chunks)):
            raise ProtocolError("a part of its upload does not have the length that the manifest asks for")
        first = lanes.offset(chunks[0])
        pieces = [data[lanes.offset(chunk) - first :][: lanes.chunk_bytes(chunk)] for chunk in chunks]
        for chunk, piece in zip(chunks, pieces, strict=True):
            lanes.check_chunk(piece, chunk)  # before any of it counts: half an upload must never be in a sum
        self.leaves += [leaf_hash(piece) for piece in pieces]
        with self._file.path.open("ab") as file:
            file.write(data)
        self.parts += 1

    @property
    def missing_part(self) -> int | None:
        """The part that comes next, or None when all came."""
        return self.parts if self.parts < parts_of(self.manifest.lanes) else None

    def finish(self) -> CheckedUpload:
        """Verifies root and signature, and only then lets the upload count: file, leaves, root, each on disk before the next.

        Raises:
            ProtocolError: it is incomplete, or not what its sender signed.
        """
        if self.root is None:
            raise ProtocolError("nothing was sent yet")
        upload = check_upload(self.manifest, self.roster, self.root, self._file, self.leaves)
        _sync(self._file.path)
        write_file(self.folder / "leaves", b"".join(self.leaves))
        write_file(self.folder / "root", self.root.to_bytes())
        return upload

    def stored(self) -> CheckedUpload | None:
        """The upload of an earlier process, read and verified again; None if it never was complete.

        Raises:
            ProtocolError: its files were damaged since.
        """
        if not (self.folder / "root").exists():
            return None
        try:
            root, leaves = UploadRoot.from_bytes((self.folder / "root").read_bytes()), [leaf_hash(chunk) for chunk in self._file]
        except OSError as error:
            raise ProtocolError(f"{error.filename}: a kept upload cannot be read ({error.strerror}); it is asked for again") from None
        return check_upload(self.manifest, self.roster, root, self._file, leaves)

    @property
    def kept_leaves(self) -> list[bytes]:
        """Leaf hashes of a complete upload."""
        data = (self.folder / "leaves").read_bytes()
        return [data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES)]

    def chunk(self, number: int) -> bytes:
        """A chunk of a complete upload."""
        return self._file.chunk(number)

    @property
    def _file(self) -> SpoolFile:
        return SpoolFile(self.folder / "spool", self.manifest.lanes)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
