"""Uploads, from an institution's first part to the accumulator: one part and one vector in memory, however many institutions send."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.link import Link, Reply, Subject
from coordinator.spool import Spool
from protocols.errors import ProtocolError
from protocols.pack import pack
from protocols.secagg import Accumulator, SumManifest, SurvivorProposal, UploadRoot


def stored_uploads(manifest: SumManifest, spools: Mapping[str, Spool]) -> Accumulator:
    """The sum of the uploads that are complete on disk."""
    accumulator = Accumulator(manifest)
    for spool in spools.values():
        stored = spool.stored()
        if stored is not None:
            accumulator.add(stored)
    return accumulator


def proposed_uploads(manifest: SumManifest, spools: Mapping[str, Spool], proposal: SurvivorProposal) -> Accumulator:
    """The sum of exactly the uploads that a set was proposed with.

    Raises:
        ProtocolError: one is not on disk any more; without it the opened masks would leave something else than the sum.
    """
    accumulator = stored_uploads(manifest, spools)
    lost = sorted(name for name, root in proposal.roots.items() if accumulator.roots.get(name) != root)
    if lost:
        raise ProtocolError(f"the uploads of {', '.join(lost)} are lost; they are asked for again")
    return accumulator


def ask_uploads(
    link: Link, subject: Subject, message_type: str, parts: Mapping[str, bytes], spools: Mapping[str, Spool], accumulator: Accumulator
) -> None:
    """Asks for roots and first parts, then for further parts in turn; an upload is added when all of it is verified and on disk."""

    def begin(reply: Reply) -> None:
        root = UploadRoot.from_bytes(reply.part("root"))
        if root.sender != reply.institution:
            raise ProtocolError("it sent an upload in another's name")
        spools[reply.institution].begin(root)
        append(reply)

    def append(reply: Reply) -> None:
        spool = spools[reply.institution]
        spool.append(reply.chunks)
        if spool.missing_part is None:
            accumulator.add(spool.finish())

    begun = link.decide(subject, message_type, dict.fromkeys(spools, pack(parts)), begin)
    part = 1
    while waiting := [name for name in begun if spools[name].missing_part == part]:
        payload = pack({**parts, "part": part.to_bytes(4, "little")})
        link.follow_up(subject, "query.upload", dict.fromkeys(waiting, payload), append)
        part += 1
