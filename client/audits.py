"""A node's spot checks: chunks that it draws once the coordinator is bound to a transcript, and what it does about a wrong one."""

from __future__ import annotations

from client.ledger import Challenge
from client.node import Node, Request
from protocols.errors import Refusal, WrongTotal
from protocols.pack import unpack
from protocols.proofs import WrongTotalProof
from protocols.secagg import OpenedSeeds, ShownTotal, check_opened, check_shown
from protocols.transcript import Transcript

SPOT_CHECKS = 8


def challenge(node: Node, request: Request, transcript: Transcript) -> bytes:
    """The chunks that the coordinator must show, 4 bytes each: all of a short vector, else eight of the node's own choice."""
    drawn = node.ledger.challenge(transcript.hash)
    if drawn is None:
        drawn = Challenge(_draw(node, transcript.manifest.lanes.chunks), request.signed)
        node.ledger.keep_challenge(transcript.hash, drawn)
    return drawn.chunks


def check_spots(node: Node, request: Request, transcript: Transcript) -> None:
    """Looks at every chunk that was drawn; a wrong total is kept as proof and ends this institution's part in the run.

    Raises:
        Refusal: something was not shown, or is wrong.
    """
    drawn = node.ledger.challenge(transcript.hash)
    if drawn is None:
        raise Refusal("a total comes after its transcript: send that first and show what this institution then asks for")
    opened, shown = _shown(request, transcript, drawn)
    proposal = transcript.certificate.proposal
    try:
        check_opened(transcript.epoch, proposal, opened)
        for one in shown:
            check_shown(transcript.manifest, proposal, opened, transcript.total, one)
    except WrongTotal as fault:
        proof = next((one for one in shown if _is_wrong(transcript, opened, one)), shown[0])
        node.ledger.keep_proof(request.run, WrongTotalProof(drawn.committed, opened, proof).to_bytes())
        raise Refusal(f"{fault}; {node.name} keeps the proof and takes no further part in this run") from None


def _shown(request: Request, transcript: Transcript, drawn: Challenge) -> tuple[OpenedSeeds, list[ShownTotal]]:
    opened = OpenedSeeds.from_bytes(request.part("opened"))
    if opened.hash != transcript.opened:
        raise Refusal("the opened seeds are not those that the transcript names")
    shown = [ShownTotal.from_bytes(data) for data in unpack(request.part("shown")).values()]
    if sorted(one.chunk for one in shown) != sorted(indices(drawn.chunks)):
        raise Refusal("the chunks that are shown are not those that this institution drew")
    return opened, shown


def indices(chunks: bytes) -> list[int]:
    """The numbers of drawn chunks."""
    return [int.from_bytes(chunks[start : start + 4], "little") for start in range(0, len(chunks), 4)]


def _is_wrong(transcript: Transcript, opened: OpenedSeeds, shown: ShownTotal) -> bool:
    try:
        check_shown(transcript.manifest, transcript.certificate.proposal, opened, transcript.total, shown)
    except WrongTotal:
        return True
    return False


def _draw(node: Node, chunks: int) -> bytes:
    drawn = set(range(chunks)) if chunks <= SPOT_CHECKS else set[int]()
    while len(drawn) < min(chunks, SPOT_CHECKS):
        drawn.add(int.from_bytes(node.randomness(8), "little") % chunks)
    return b"".join(chunk.to_bytes(4, "little") for chunk in sorted(drawn))
