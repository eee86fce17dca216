"""What shows chunks of a published total to be sums of their parts: each tree is built once, however many institutions look."""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.sum_record import SumRecord
from protocols.merkle import MerkleTree
from protocols.pack import pack
from protocols.roster import Roster
from protocols.secagg import ShownChunk, ShownTotal, chunk_of_total, total_leaves
from protocols.transcript import Transcript


class Showing:
    """One finished sum whose uploads are kept."""

    def __init__(self, record: SumRecord, transcript: Transcript, roster: Roster) -> None:
        lanes, self._total = transcript.manifest.lanes, record.total.data
        self._lanes = lanes
        self._spools = {name: record.spool(transcript.epoch, name, roster) for name in transcript.certificate.proposal.members}
        self._trees = {name: MerkleTree(spool.kept_leaves) for name, spool in self._spools.items()}
        self._tree = MerkleTree(total_leaves(lanes, self._total))

    def show(self, chunks: Iterable[int]) -> bytes:
        """These chunks, packed by number."""
        return pack({str(chunk): self._shown(chunk).to_bytes() for chunk in chunks})

    def _shown(self, chunk: int) -> ShownTotal:
        uploads = {name: ShownChunk(spool.chunk(chunk), self._trees[name].path(chunk)) for name, spool in self._spools.items()}
        return ShownTotal(chunk, uploads, ShownChunk(chunk_of_total(self._lanes, self._total, chunk), self._tree.path(chunk)))
