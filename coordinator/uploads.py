"""The sum of uploads that are on disk."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.spool import Spool
from protocols.errors import ProtocolError
from protocols.scratch import Scratch
from protocols.secagg import Accumulator, SumManifest, SurvivorProposal


def stored_uploads(manifest: SumManifest, spools: Mapping[str, Spool], scratch: Scratch) -> Accumulator:
    """The sum of the uploads that are complete on disk, in `scratch`."""
    accumulator = Accumulator(manifest, scratch)
    for spool in spools.values():
        stored = spool.stored()
        if stored is not None:
            accumulator.add(stored)
    return accumulator


def proposed_uploads(manifest: SumManifest, spools: Mapping[str, Spool], proposal: SurvivorProposal, scratch: Scratch) -> Accumulator:
    """The sum of exactly the uploads that a set was proposed with.

    Raises:
        ProtocolError: one is not on disk any more; without it the opened masks would leave something else than the sum.
    """
    accumulator = stored_uploads(manifest, spools, scratch)
    lost = sorted(name for name, root in proposal.roots.items() if accumulator.roots.get(name) != root)
    if lost:
        raise ProtocolError(f"the uploads of {', '.join(lost)} are lost; they are asked for again")
    return accumulator
