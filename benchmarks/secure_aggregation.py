"""The secure sum: beside Flower's SecAgg+ on the same vectors, with many institutions, in memory, and on long vectors.

python -m benchmarks.secure_aggregation [compare | scale | memory | long] [--institutions N ...]
    [--elements N ...] [--threads N] [--repeats N]
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.cohort import COLLUDING, names
from benchmarks.coordinator_memory import coordinator_peaks
from benchmarks.timing import Work, interleaved, resident_peak
from protocols.encoding import Block, LaneLayout, decode, encode
from protocols.epoch import threshold
from protocols.secagg import run_secagg

BOUND = 0.125  # of every element; a float32, so that what is clipped to it is not above it
WIDTHS = (32, 20)
Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decoded sum, float64, bytes that a survivor sent for each element, and seconds by stage."""

    total: NDArray[np.float64]
    upload: float
    stages: Mapping[str, float]


def our_sum(vectors: Mapping[str, Vector], bits: int, dropped: tuple[str, ...], threads: int = 1) -> Outcome:
    """Encodes, masks, adds, unmasks and decodes; who dropped does nothing after the setup."""
    size = len(next(iter(vectors.values())))
    layout = LaneLayout((Block("delta", (size,), BOUND, False, narrow=True),), bits)
    marks = [time.perf_counter()]
    absent = np.zeros(size, np.uint32)

    def encoded(name: str) -> NDArray[np.uint32]:
        return absent if name in dropped else encode({"delta": vectors[name]}, layout, len(vectors), rounding(name))

    with ThreadPoolExecutor(threads) as pool:
        lanes = dict(zip(vectors, pool.map(encoded, vectors), strict=True))
    marks.append(time.perf_counter())
    result = run_secagg(lanes, colluding=COLLUDING, drop=dict.fromkeys(dropped, "masked"), lanes=bits, threads=threads)
    marks.append(time.perf_counter())
    total = decode(result.total, layout, len(vectors))["delta"]
    marks.append(time.perf_counter())
    stages = dict(zip(("encode", "secure sum", "decode"), (b - a for a, b in itertools.pairwise(marks)), strict=True))
    return Outcome(total, max(result.bytes_up.values()) / size, stages)


def rounding(name: str) -> np.random.Generator:
    """The generator that a node rounds with."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(name.encode()[-8:], "little")))


def their_sum(vectors: Mapping[str, Vector], dropped: tuple[str, ...], threads: int = 1) -> Outcome:
    """Flower's, with the same threshold."""
    from benchmarks.flower_secagg import flower_sum

    numbers = {name: number for number, name in enumerate(vectors, start=2)}
    start = time.perf_counter()
    given = {numbers[name]: vector for name, vector in vectors.items()}
    result = flower_sum(given, BOUND, threshold(len(vectors), COLLUDING), [numbers[name] for name in dropped], threads)
    clients = sum(result.client_seconds.values()) / threads
    upload = max(result.bytes_up.values()) / len(next(iter(vectors.values())))
    return Outcome(result.total, upload, {"clients": clients, "server": time.perf_counter() - start - clients})


def compare(institutions: int, elements: int, threads: int, repeats: int) -> None:
    """Prints a row for each program and number of dropouts; seconds are medians of turns in one process, members on so many threads."""
    rng = np.random.default_rng(0)
    vectors = {name: drawn(rng, elements) for name in names(institutions)}
    for dropped in ((), tuple(names(institutions))[1:2]):
        outcomes: dict[str, Outcome] = {}

        def keep(name: str, work: partial[Outcome], outcomes: dict[str, Outcome] = outcomes) -> None:
            outcomes[name] = work()

        programs = {f"ours, {bits} bits": partial(our_sum, vectors, bits, dropped, threads) for bits in WIDTHS}
        programs["Flower SecAgg+"] = partial(their_sum, vectors, dropped, threads)
        works: dict[str, Work] = {name: partial(keep, name, work) for name, work in programs.items()}
        seconds = interleaved(works, repeats)
        exact: NDArray[np.float64] = np.sum([vector for name, vector in vectors.items() if name not in dropped], 0, dtype=np.float64)
        print(f"\n{institutions} institutions x {elements:,} elements, {len(dropped)} dropped, {threads} threads")
        for name, outcome in outcomes.items():
            print_row(name, seconds[name], seconds["Flower SecAgg+"] / seconds[name], outcome, exact)


def print_row(name: str, seconds: float, ratio: float, outcome: Outcome, exact: NDArray[np.float64]) -> None:
    """The error is the largest of any element, as a share of the largest element of the sum."""
    error = np.abs(outcome.total - exact).max() / np.abs(exact).max()
    stages = ", ".join(f"{stage} {part:.2f} s" for stage, part in outcome.stages.items())
    print(f"  {name:16} {seconds:8.2f} s  {ratio:6.1f}x Flower  {outcome.upload:5.2f} B/element  error {error:.1e}  ({stages})")


def drawn(rng: np.random.Generator, elements: int) -> Vector:
    """Like an update: most elements small, none above the bound."""
    vector = rng.standard_normal(elements, np.float32)
    vector *= np.float32(BOUND / 5)
    return np.clip(vector, -BOUND, BOUND, out=vector)


def scale(institutions: int, elements: int, threads: int) -> None:
    """One sum over a complete graph, members that mask on so many threads of this process; all have the same vector."""
    vector = np.arange(elements, dtype=np.uint32)
    start = time.perf_counter()
    run_secagg(dict.fromkeys(names(institutions), vector[:1]), colluding=COLLUDING)
    setup = time.perf_counter() - start
    result = run_secagg(dict.fromkeys(names(institutions), vector), colluding=COLLUDING, threads=threads)
    both = time.perf_counter() - start
    if not np.array_equal(result.total, vector * np.uint32(institutions)):
        raise ArithmeticError("the total is not the sum of the vectors")
    print(f"{institutions} institutions x {elements:,} elements: {both - setup:.1f} s, of which all but the masks {setup:.1f} s")


def memory(institutions: list[int], elements: int) -> None:
    """The coordinator's peak for each number of institutions, and the last as a multiple of the first, with and without the setup."""
    peaks = [coordinator_peaks(number, elements) for number in institutions]
    for number, peak in zip(institutions, peaks, strict=True):
        print(f"{number} institutions x {elements:,} elements: {peak.sum / 1e6:.0f} MB at most, {peak.setup / 1e6:.0f} MB before the sum")
    first, last = peaks[0], peaks[-1]
    alone = (last.sum - last.setup) / max(first.sum - first.setup, 1)
    print(f"ratio of the peaks {last.sum / first.sum:.2f}; of what the sum adds {alone:.2f}")


def long(institutions: int, elements: int) -> None:
    """Peak of one process with one party's vector, lanes and upload and the coordinator's sum: no party alone holds as much.

    The institutions have the same vector, so that it is in memory once.
    """
    layout, before = LaneLayout((Block("delta", (elements,), BOUND, False, narrow=True),)), resident_peak()
    vector = drawn(np.random.default_rng(0), elements)
    start = time.perf_counter()
    lanes = encode({"delta": vector}, layout, institutions, rounding("long"))
    result = run_secagg(dict.fromkeys(names(institutions), lanes), colluding=COLLUDING)
    seconds = time.perf_counter() - start
    if not np.array_equal(result.total[:1000], lanes[:1000] * np.uint32(institutions)):
        raise ArithmeticError("the total is not the sum of the vectors")
    peak = resident_peak()
    print(
        f"{institutions} institutions x {elements:,} elements: {seconds:.1f} s; {peak / 1e9:.2f} GB at most, {before / 1e6:.0f} MB before"
    )


def main() -> None:
    """Runs one section; the sizes that are not given are those of the published figures."""
    sizes = {"compare": ([8], [10**6, 10**7]), "scale": ([200], [10**6]), "memory": ([10, 100], [10**7]), "long": ([3], [10**8])}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", choices=sizes, default="compare")
    parser.add_argument("--institutions", type=int, nargs="+")
    parser.add_argument("--elements", type=int, nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    institutions = arguments.institutions or sizes[arguments.section][0]
    for elements in arguments.elements or sizes[arguments.section][1]:
        if arguments.section == "compare":
            compare(institutions[0], elements, arguments.threads, arguments.repeats)
        elif arguments.section == "scale":
            scale(institutions[0], elements, arguments.threads)
        elif arguments.section == "memory":
            memory(institutions, elements)
        else:
            long(institutions[0], elements)


if __name__ == "__main__":
    main()
