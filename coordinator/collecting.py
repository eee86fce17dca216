"""Uploads on their way, from the first part to the accumulator: one part and one vector in memory, however many institutions send."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.link import Link, Reply, Subject
from coordinator.spool import Spool
from protocols.errors import ProtocolError
from protocols.pack import pack
from protocols.secagg import Accumulator, UploadRoot


def ask_uploads(
    link: Link,
    subject: Subject,
    message_type: str,
    parts: Mapping[str, bytes],
    spools: Mapping[str, Spool],
    accumulator: Accumulator,
    deadline: float,
) -> None:
    """Asks for roots and first parts, for which it waits `deadline` seconds, then for further parts in turn.

    An upload is added when all of it is verified and on disk.
    """

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

    begun = link.decide(subject, message_type, dict.fromkeys(spools, pack(parts)), begin, deadline)
    part = 1
    while waiting := [name for name in begun if spools[name].missing_part == part]:
        payload = pack({**parts, "part": part.to_bytes(4, "little")})
        link.follow_up(subject, "query.upload", dict.fromkeys(waiting, payload), append)
        part += 1
