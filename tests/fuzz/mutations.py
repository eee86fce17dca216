"""Altered copies of valid bytes: some at the surface, some inside a message whose outer form stays whole."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from protocols.pack import PackError, pack, unpack

LENGTHS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1)
_NUMBERS = (b"", b"-1", b"+1", b"01", b" 1", b"1e3", b"9" * 19, b"9" * 20, "١".encode(), b"18446744073709551616")


def mutate(data: bytes, rng: Random) -> bytes:
    """One change, drawn at random; at every second call inside the parts of `data`, where it has any."""
    return mutate_inside(data, rng, mutate_surface) if rng.random() < 0.5 else mutate_surface(data, rng)


def mutate_inside(data: bytes, rng: Random, change: Callable[[bytes, Random], bytes]) -> bytes:
    """`change` applied to one part of a packed message, however deep, or to its list of parts; the rest stays well-formed."""
    try:
        parts = unpack(data)
    except PackError:
        return change(data, rng)
    if not parts or rng.random() < 0.1:
        return change(data, rng)
    name = rng.choice(sorted(parts))
    if rng.random() < 0.2:
        return pack(_rearranged(parts, name, rng))
    return pack(parts | {name: mutate_inside(parts[name], rng, change)})


def mutate_surface(data: bytes, rng: Random) -> bytes:
    return rng.choice((_flip, _cut, _double, _splice, _length, _number, _insert))(data, rng)


def _rearranged(parts: dict[str, bytes], name: str, rng: Random) -> dict[str, bytes]:
    """A part removed, doubled under another name, or exchanged with another's content."""
    rest = {other: content for other, content in parts.items() if other != name}
    other = rng.choice(sorted(parts))
    return rng.choice((rest, parts | {name + "x": parts[name]}, parts | {name: parts[other], other: parts[name]}))


def _flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data or b"\0")
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randint(0, len(data))]


def _double(data: bytes, rng: Random) -> bytes:
    start, end = sorted(rng.randint(0, len(data)) for _ in range(2))
    return data[:end] + data[start:]


def _splice(data: bytes, rng: Random) -> bytes:
    start, end = sorted(rng.randint(0, len(data)) for _ in range(2))
    place = rng.randint(0, len(data))
    return data[:place] + data[start:end] + data[place + end - start :]


def _length(data: bytes, rng: Random) -> bytes:
    place = rng.randint(0, max(0, len(data) - 4))
    return data[:place] + rng.choice(LENGTHS).to_bytes(4, "little") + data[place + 4 :]


def _number(data: bytes, rng: Random) -> bytes:
    return rng.choice(_NUMBERS)


def _insert(data: bytes, rng: Random) -> bytes:
    place = rng.randint(0, len(data))
    return data[:place] + rng.randbytes(rng.randint(1, 8)) + data[place:]
