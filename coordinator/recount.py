"""A finished sum counted again from the masked uploads that are still kept: all of it, not only the chunks that nodes drew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from coordinator.spool import SpoolFile
from protocols.codec import Message
from protocols.errors import MalformedMessage, ProtocolError, WrongTotal
from protocols.merkle import leaf_hash
from protocols.roster import Roster
from protocols.secagg import (
    Accumulator,
    CheckedUpload,
    OpenedSeeds,
    SumManifest,
    UploadRoot,
    check_opened,
    check_root,
    check_upload,
    remove_masks,
    root_of,
)
from protocols.transcript import Transcript

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class KeptSum:
    """The files of a finished sum beside its transcript, which says what each of them must be."""

    folder: Path
    transcript: Transcript

    @property
    def name(self) -> str:
        manifest = self.transcript.manifest
        return f"{manifest.sum} sum of round {manifest.round} of run {manifest.run}"

    @property
    def missing(self) -> list[Path]:
        """Files that counting again needs and that are not there."""
        return [path for path in [self.folder / "opened", *self._uploads()] if not path.exists()]

    def check_manifest(self) -> None:
        """Raises ProtocolError unless the manifest's own file is the one inside the transcript."""
        path = self.folder / "manifest"
        if path.exists() and self._read(path, SumManifest) != self.transcript.manifest:
            raise self._changed(path)

    def recount(self, roster: Roster) -> str:
        """Adds all uploads, takes out all opened masks, and compares with what the transcript names; what that proves, in a sentence.

        Raises:
            ProtocolError: a file is missing, or is another one than the transcript names.
            WrongTotal: the total is another one.
        """
        transcript, proposal = self.transcript, self.transcript.certificate.proposal
        lanes, opened = transcript.manifest.lanes, self._read(self.folder / "opened", OpenedSeeds)
        if opened.hash != transcript.opened:
            raise self._changed(self.folder / "opened")
        check_opened(transcript.epoch, proposal, opened)
        accumulator = Accumulator(transcript.manifest)
        for name in proposal.members:
            accumulator.add(self._upload(name, roster))
        if root_of(lanes, remove_masks(accumulator, opened)) != transcript.total:
            raise WrongTotal(f"the {self.name} is not the sum of its {len(proposal.roots)} uploads")
        return f"The {self.name} is the sum of its {len(proposal.roots)} uploads in all {lanes.size} lanes."

    def _uploads(self) -> Iterator[Path]:
        for name in self.transcript.certificate.proposal.members:
            yield self._upload_folder(name) / "root"
            yield self._upload_folder(name) / "spool"

    def _upload_folder(self, name: str) -> Path:
        return self.folder / "uploads" / str(self.transcript.epoch.number(name))

    def _upload(self, name: str, roster: Roster) -> CheckedUpload:
        """What differs was changed on this disk: an upload counted only once root and signature had been verified."""
        manifest, folder = self.transcript.manifest, self._upload_folder(name)
        root, spool = self._read(folder / "root", UploadRoot), SpoolFile(folder / "spool", manifest.lanes)
        if (root.sender, root.root) != (name, self.transcript.certificate.proposal.roots[name]):
            raise self._changed(folder / "root")
        try:
            check_root(manifest, roster, root)
        except ProtocolError:
            raise self._changed(folder / "root") from None
        try:
            return check_upload(manifest, roster, root, spool, [leaf_hash(chunk) for chunk in spool])
        except OSError as error:
            raise self._unreadable(spool.path, error) from None
        except ProtocolError:
            raise self._changed(spool.path) from None

    def _read(self, path: Path, kind: type[M]) -> M:
        try:
            return kind.from_bytes(path.read_bytes())
        except OSError as error:
            raise self._unreadable(path, error) from None
        except MalformedMessage:
            raise self._changed(path) from None

    def _changed(self, path: Path) -> ProtocolError:
        return ProtocolError(f"{path}: not what the transcript of the {self.name} names, changed or damaged; restore it from a backup")

    def _unreadable(self, path: Path, error: OSError) -> ProtocolError:
        return ProtocolError(f"{path}: cannot be read for the {self.name} ({error.strerror}); restore it from a backup")
