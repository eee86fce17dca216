"""`tiktoken.model`: a token's bytes in base64 and its rank a line; and the merges that byte-pair encoding in ranks implies."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from model.errors import TokenizerError


def read_ranks(path: Path) -> dict[bytes, int]:
    """Token bytes -> rank, in the order of ranks, which are 0, 1, 2, …

    Raises:
        TokenizerError: the file is missing, a line is malformed or repeats another, or a rank or a single byte has no token.
    """
    if not path.is_file():
        raise TokenizerError(f"{path.parent} has no {path.name}: give the directory of a checkpoint that ships one")
    ranks: dict[bytes, int] = {}
    lines: dict[int, int] = {}  # rank -> line
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        token, rank = _parse(line, f"{path}, line {number}")
        if rank in lines or token in ranks:
            earlier = lines[rank] if rank in lines else lines[ranks[token]]
            raise TokenizerError(
                f"{path}, line {number}: repeats the {'rank' if rank in lines else 'token'} of line {earlier}; fetch it again"
            )
        ranks[token], lines[rank] = rank, number
    _check_complete(ranks, lines, path)
    return dict(sorted(ranks.items(), key=lambda item: item[1]))


def merge_pairs(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """For each token of several bytes, in the order of ranks, the two tokens that it is merged from.

    These are what byte-pair encoding with all lower ranks leaves of the token's own bytes. In any text the bytes below a
    token go through the same merges, so no other pair ever meets. A token that is left in more parts is reached by no
    merge, but only as a whole piece.
    """
    for token, rank in ranks.items():
        parts = _parts(token, rank, ranks)
        if len(parts) == 2:
            yield parts[0], parts[1]


def _parts(token: bytes, below: int, ranks: Mapping[bytes, int]) -> list[bytes]:
    """Byte-pair encoding of `token` with the ranks lower than `below`: lowest rank first, leftmost among equals."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 1:
        pairs = (ranks.get(left + right, below) for left, right in pairwise(parts))
        rank, at = min((rank, index) for index, rank in enumerate(pairs))
        if rank >= below:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _parse(line: bytes, place: str) -> tuple[bytes, int]:
    fields = line.split()
    if len(fields) != 2:
        raise TokenizerError(f"{place}: holds {len(fields)} fields, not a token in base64 and its rank; fetch the file again")
    try:
        token = base64.b64decode(fields[0], validate=True)
    except binascii.Error:
        raise TokenizerError(f"{place}: the token is not base64; fetch the file again") from None
    if not token:
        raise TokenizerError(f"{place}: the token is empty; fetch the file again")
    if not fields[1].isdigit() or len(fields[1]) > 9:
        raise TokenizerError(f"{place}: the rank is not a whole number below a billion; fetch the file again")
    return token, int(fields[1])


def _check_complete(ranks: Mapping[bytes, int], lines: Mapping[int, int], path: Path) -> None:
    for expected, rank in enumerate(sorted(lines)):
        if rank != expected:
            raise TokenizerError(f"{path}, line {lines[rank]}: rank {rank} stands where {expected} is missing; fetch the file again")
    for byte in range(256):
        if bytes([byte]) not in ranks:
            raise TokenizerError(f"{path} has no token for byte 0x{byte:02x}; fetch the file again")
