"""One attempt at a sum on the coordinator's disk: whatever is decided or received stands here before anything follows from it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from coordinator.errors import JobError
from coordinator.spool import Spool
from protocols.codec import Message
from protocols.epoch import EpochManifest, ShownRow
from protocols.errors import ConsortiumError
from protocols.files import sync_directory, write_file, write_pieces
from protocols.pack import pack, unpack
from protocols.proposals import Proposal
from protocols.roster import Roster
from protocols.secagg import (
    OpenedSeeds,
    SumManifest,
    SurvivorCertificate,
    SurvivorProposal,
)
from protocols.transcript import Transcript

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class SumRecord:
    """A folder with a file for every stage. What a file holds is never replaced by something else."""

    folder: Path

    @classmethod
    def begin(cls, folder: Path, manifest: SumManifest, chain: bytes) -> SumRecord:
        """A new attempt; `chain` are digests of the registry's last events, up to the manifest's head."""
        record = cls(folder)
        record._keep("chain", chain)
        record._keep("manifest", manifest.to_bytes())
        return record

    @property
    def manifest(self) -> SumManifest:
        manifest = self._kept("manifest", SumManifest)
        if manifest is None:
            raise JobError(f"{self.folder}: the attempt's manifest is missing; start the plan again in a new directory")
        return manifest

    @property
    def chain(self) -> bytes:
        """Raises JobError if it is missing."""
        path = self.folder / "chain"
        if not path.exists():
            raise JobError(f"{path}: the digests of the attempt's event chain are missing; start the plan again in a new directory")
        return path.read_bytes()

    def spool(self, epoch: EpochManifest, name: str, roster: Roster) -> Spool:
        """The upload of a member of the epoch."""
        return Spool(self.folder / "uploads" / str(epoch.number(name)), self.manifest, roster)

    @property
    def proposal(self) -> SurvivorProposal | None:
        """The frozen set."""
        return self._kept("proposal", SurvivorProposal)

    def freeze(self, proposal: SurvivorProposal) -> None:
        """The one set of this attempt."""
        self._keep("proposal", proposal.to_bytes())

    @property
    def certificate(self) -> SurvivorCertificate | None:
        return self._kept("certificate", SurvivorCertificate)

    def keep_certificate(self, certificate: SurvivorCertificate) -> None:
        self._keep("certificate", certificate.to_bytes())

    def keep_answer(self, stage: str, name: str, answer: bytes) -> None:
        """An institution's answer to a stage, before it is used."""
        write_file(self.folder / stage / hashlib.sha256(name.encode()).hexdigest()[:32], pack({name: answer}))

    def answers(self, stage: str) -> dict[str, bytes]:
        """What institutions answered so far; a process that was killed leaves files with a dot that it had not finished."""
        paths = sorted((self.folder / stage).glob("[!.]*"))
        return {name: answer for path in paths for name, answer in unpack(path.read_bytes()).items()}

    @property
    def opened(self) -> OpenedSeeds | None:
        return self._kept("opened", OpenedSeeds)

    def keep_rebalancing(self, proposal: Proposal) -> Proposal:
        """What the coordinator proposes beside the total, by tensor; empty after most sums."""
        self._keep("rebalancing", save(dict(proposal)))
        return proposal

    @property
    def rebalancing(self) -> Proposal | None:
        path = self.folder / "rebalancing"
        try:
            return load(path.read_bytes()) if path.exists() else None
        except (OSError, SafetensorError):
            raise JobError(f"{path} is damaged; start the plan again in a new directory") from None

    def keep_outcome(self, transcript: Transcript, opened: OpenedSeeds, total: Iterable[bytes], rows: Mapping[str, ShownRow]) -> None:
        """What came out, the written total in pieces; the transcript last, because it speaks for the others."""
        self._keep("opened", opened.to_bytes())
        if rows:
            self._keep("rows", pack({name: row.to_bytes() for name, row in rows.items()}))
        self._keep_pieces("total", total)
        self._keep("transcript", transcript.to_bytes())

    @property
    def transcript(self) -> Transcript | None:
        return self._kept("transcript", Transcript)

    @property
    def rows(self) -> bytes:
        """Of every survivor, its commitments to pair seeds of the slot; packed, and of nobody where no member is missing."""
        path = self.folder / "rows"
        return path.read_bytes() if path.exists() else pack({})

    @property
    def total(self) -> NDArray[np.uint8]:
        """The written total, uint8 [bytes], read from its file as it is used."""
        path = self.folder / "total"
        return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)

    def keep_confirmations(self, confirmations: Mapping[str, bytes]) -> None:
        """Signed answers of institutions that came to the transcript's state."""
        write_file(self.folder / "confirmations", pack(self.confirmations | dict(confirmations)))

    @property
    def confirmations(self) -> dict[str, bytes]:
        path = self.folder / "confirmations"
        return unpack(path.read_bytes()) if path.exists() else {}

    @property
    def unconfirmed(self) -> set[str]:
        """Members of the epoch that are not known to have come to the transcript's state."""
        transcript = self.transcript
        return set() if transcript is None else set(transcript.epoch.members) - self.confirmations.keys()

    def drop_uploads(self) -> None:
        """Removes what only an audit of the total needs: masked uploads, opened seeds, what shows them to be true, and the total."""
        shutil.rmtree(self.folder / "uploads", ignore_errors=True)
        for name in ("opened", "rows", "total"):
            (self.folder / name).unlink(missing_ok=True)

    def _keep(self, name: str, data: bytes) -> None:
        self._keep_pieces(name, (data,))

    def _keep_pieces(self, name: str, pieces: Iterable[bytes]) -> None:
        path = self.folder / name
        if not path.exists():
            write_pieces(path, pieces)
        elif not _holds(path, pieces):
            raise JobError(f"{path} holds another {name} than the one that is to be kept; two processes may drive this run")
        else:
            sync_directory(self.folder)  # who wrote it may have died just before

    def _kept(self, name: str, kind: type[M]) -> M | None:
        path = self.folder / name
        try:
            return kind.from_bytes(path.read_bytes()) if path.exists() else None
        except (OSError, ConsortiumError):
            raise JobError(f"{path} is damaged; start the plan again in a new directory") from None


def _holds(path: Path, pieces: Iterable[bytes]) -> bool:
    with path.open("rb") as file:
        return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)
