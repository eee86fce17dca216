"""A spot check of a published total: one chunk of every survivor's upload, its opened masks taken out again (PROTOCOL, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.codec import Message
from protocols.epoch import EpochCertificate, EpochManifest, ShownRow, check_pair_seed
from protocols.errors import EncodingError, ProtocolError, WrongTotal
from protocols.merkle import is_in_tree, leaf_hash
from protocols.secagg.accumulator import left_masks
from protocols.secagg.manifest import SumManifest
from protocols.secagg.opening import OpenedSeeds
from protocols.secagg.survivors import SurvivorProposal

SPOT_CHECKS = 8


@dataclass(frozen=True)
class ShownChunk(Message):
    """A written chunk with its Merkle path."""

    data: bytes
    path: bytes


@dataclass(frozen=True)
class ShownTotal(Message):
    """What shows one chunk of a total to be the sum of its parts, or not."""

    chunk: int
    uploads: Mapping[str, ShownChunk]  # by survivor
    total: ShownChunk


def looks(sum_name: str, chunks: int) -> int:
    """Chunks that an institution looks at: all of a pre-round, which decides what it sends next, else eight."""
    return chunks if sum_name == "parts" else min(chunks, SPOT_CHECKS)


def check_opened(epoch: EpochManifest, proposal: SurvivorProposal, opened: OpenedSeeds) -> None:
    """Raises WrongTotal unless the seeds are those of exactly the set's members and, pair by pair, of those who are missing."""
    inside = set(proposal.members)
    pairs = {name: set(seeds) for name, seeds in opened.pair_seeds.items()}
    if set(opened.self_seeds) != inside or pairs != dict.fromkeys(set(epoch.members) - inside, inside):
        raise WrongTotal("the opened seeds are not those that follow from the set of survivors")


def check_opened_pairs(epoch: EpochManifest, setup: EpochCertificate, slot: int, opened: OpenedSeeds, rows: Mapping[str, ShownRow]) -> None:
    """Whether every pair seed opened of a missing member is the one that its survivor committed to when it signed the certificate.

    Raises:
        ProtocolError: one is not, or no row is shown of the survivor; else a seed that was made up would hide what was added to a total.
    """
    for missing, seeds in opened.pair_seeds.items():
        for survivor, seed in seeds.items():
            if survivor not in rows:
                raise ProtocolError(f"{missing} is missing, and what {survivor} committed to as their pair seed was not shown")
            check_pair_seed(epoch, setup, survivor, missing, slot, rows[survivor], seed)


def check_shown(manifest: SumManifest, proposal: SurvivorProposal, opened: OpenedSeeds, total_root: bytes, shown: ShownTotal) -> None:
    """Whether one chunk of the published total is the survivors' sum without its masks.

    Raises:
        ProtocolError: something else was shown than uploads and total committed to.
        WrongTotal: what they committed to does not add up, whoever shows it.
    """
    _check_paths(manifest, proposal, total_root, shown)
    lanes, span = manifest.lanes, manifest.lanes.span(shown.chunk)
    total: NDArray[np.uint32] = np.zeros(span.stop - span.start, np.uint32)
    try:
        for upload in shown.uploads.values():
            total += lanes.read(upload.data, shown.chunk)
    except EncodingError as error:
        raise WrongTotal(f"the coordinator summed what is no vector: {error}") from None
    left_masks(manifest, opened, span.start).add_to(total)
    lanes.reduce(total, span.start)
    if lanes.write(total, span.start) != shown.total.data:
        raise WrongTotal(f"chunk {shown.chunk} of the total is not the sum of the survivors' inputs; the coordinator altered it")


def _check_paths(manifest: SumManifest, proposal: SurvivorProposal, total_root: bytes, shown: ShownTotal) -> None:
    count = manifest.lanes.chunks
    if shown.uploads.keys() != set(proposal.members):
        raise ProtocolError(f"chunk {shown.chunk} was not shown of exactly the survivors")
    for name, upload in shown.uploads.items():
        if not is_in_tree(proposal.roots[name], count, shown.chunk, leaf_hash(upload.data), upload.path):
            raise ProtocolError(f"what was shown as chunk {shown.chunk} of {name} is not what it signed")
    if not is_in_tree(total_root, count, shown.chunk, leaf_hash(shown.total.data), shown.total.path):
        raise ProtocolError(f"what was shown as chunk {shown.chunk} of the total is not what the transcript names")
