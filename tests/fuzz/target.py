"""The process that libFuzzer runs: a decoder's entry with the project's own bytecode instrumented.

The first byte of an input chooses among the decoders that share the entry.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random

import atheris

INSTRUMENTED = ["protocols", "client.institution", "flwr.common.serde", "flwr.common.serde_utils", "flwr.app.message", "tomllib"]


def run(entry: str, arguments: list[str]) -> None:
    """Hands over to libFuzzer, which ends the process."""
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from tests.fuzz.decoders import entries
        from tests.fuzz.mutations import mutate_inside, mutate_surface

    chosen = entries()[entry]
    for decoder in chosen:
        decoder.samples()

    def test_one_input(data: bytes) -> None:
        if data:
            chosen[data[0] % len(chosen)].check(data[1:])

    atheris.Setup([f"fuzz-{entry}", *arguments], test_one_input, custom_mutator=_mutator(mutate_inside, mutate_surface))
    atheris.Fuzz()


def _mutator(inside: Callable[..., bytes], surface: Callable[[bytes, Random], bytes]) -> Callable[[bytes, int, int], bytes]:
    """Half of the time libFuzzer changes the bytes as they are, half of the time one part within a message whose form stays whole."""

    def part_mutated(part: bytes, rng: Random) -> bytes:
        return surface(part, rng) if rng.random() < 0.2 else bytes(atheris.Mutate(part, len(part) + 64))

    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        rng = Random(seed)
        if not data or rng.random() < 0.5:
            return bytes(atheris.Mutate(data, max_size))
        changed = inside(data[1:], rng, part_mutated)
        return (data[:1] + changed)[:max_size]

    return mutated


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
