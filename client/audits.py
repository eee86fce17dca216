"""A node's spot checks: chunks that it draws once the coordinator is bound to a transcript, and what it does about a wrong one."""

from __future__ import annotations

from client.ledger_rows import Challenge
from client.node import Node, Request
from protocols.epoch import EpochState, ShownRow, check_opened_seeds
from protocols.errors import Refusal, WrongTotal
from protocols.pack import pack, unpack
from protocols.proofs import WrongTotalProof
from protocols.secagg import OpenedSeeds, ShownTotal, check_opened, check_opened_pairs, check_shown, looks
from protocols.transcript import Transcript


def challenge(node: Node, request: Request, transcript: Transcript) -> bytes:
    """The chunks that the coordinator must show, 4 bytes each: all of a short vector, else eight of the node's own choice.

    All of a pre-round too: what its total says decides which of this institution's experts are sent, so that a later look is too late.
    """
    drawn, chunks = node.ledger.challenge(transcript.hash), transcript.manifest.lanes.chunks
    if drawn is None:
        drawn = Challenge(_draw(node, chunks, looks(transcript.manifest.sum, chunks)), request.signed)
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
        _check_known_seeds(node, transcript, opened)
        check_opened_pairs(transcript.epoch, transcript.setup, transcript.manifest.slot, opened, _rows(request))
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


def _rows(request: Request) -> dict[str, ShownRow]:
    """What survivors committed to as their pair seeds; shown where somebody is missing."""
    return {name: ShownRow.from_bytes(data) for name, data in unpack(request.parts.get("rows", pack({}))).items()}


def _check_known_seeds(node: Node, transcript: Transcript, opened: OpenedSeeds) -> None:
    """In an epoch of its own a member knows every commitment to a self seed, and all pair seeds of its own: others would be made up."""
    stored = node.ledger.epoch(transcript.manifest.run, transcript.epoch.epoch)
    if stored is not None and stored.stage == "confirmed":
        check_opened_seeds(EpochState.from_bytes(stored.state), transcript.manifest.slot, opened.self_seeds, opened.pair_seeds)


def indices(chunks: bytes) -> list[int]:
    """The numbers of drawn chunks."""
    return [int.from_bytes(chunks[start : start + 4], "little") for start in range(0, len(chunks), 4)]


def _is_wrong(transcript: Transcript, opened: OpenedSeeds, shown: ShownTotal) -> bool:
    try:
        check_shown(transcript.manifest, transcript.certificate.proposal, opened, transcript.total, shown)
    except WrongTotal:
        return True
    return False


def _draw(node: Node, chunks: int, count: int) -> bytes:
    drawn = set(range(chunks)) if count == chunks else set[int]()
    while len(drawn) < count:
        drawn.add(int.from_bytes(node.randomness(8), "little") % chunks)
    return b"".join(chunk.to_bytes(4, "little") for chunk in sorted(drawn))
