"""Hostile bytes at every decoder: a declared refusal or one meaning with one form, in bounded time and memory."""

from __future__ import annotations

import itertools
import json
import math
import time
import tracemalloc
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.institution import Membership
from protocols.errors import ConsortiumError, StateError
from protocols.pack import PackError, pack, unpack
from protocols.roster import Roster, RosterEntry
from protocols.state import State, state_from_arrays, state_header
from tests.fuzz.decoders import Decoder, decoders
from tests.fuzz.mutations import mutate

every_decoder = pytest.mark.parametrize("name", sorted(decoders()))
SECONDS = 5.0  # of processor time; linear decoders take a second for two readings and two writings of the worst megabyte
MEMORY_AT_LEAST = 2**20
MEMORY_PER_BYTE = 150  # a list of empty parts costs the most: an object for every four bytes


@every_decoder
def test_what_was_sent_is_read_and_written_as_it_was(name: str) -> None:
    decoder = decoders()[name]
    samples = decoder.samples()
    assert samples, f"tests/fuzz/samples.py makes no {name}; add it to what is said there"
    for sample in samples:
        assert decoder.check(sample)
        assert decoder.encode(decoder.decode(sample)) == sample


@every_decoder
@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_a_declared_refusal(name: str, data: bytes) -> None:
    decoders()[name].check(data)


@every_decoder
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_altered_bytes_are_a_declared_refusal_or_another_content(name: str, seed: int) -> None:
    decoder, rng = decoders()[name], Random(seed)
    samples = decoder.samples()
    for _ in range(10):
        data = rng.choice(samples)
        for _ in range(rng.randint(1, 3)):
            data = mutate(data, rng)
        decoder.check(data)


@every_decoder
def test_a_message_that_is_cut_anywhere_is_refused(name: str) -> None:
    decoder = decoders()[name]
    sample = min(decoder.samples(), key=len)
    for length in range(0, len(sample), max(1, len(sample) // 2000)):
        whole = decoder.check(sample[:length])
        assert not (whole and decoder.exact) or name == "pack" or not sample[:length]


@pytest.mark.parametrize("name", ["pack", "EpochManifest", "OpenedSeeds", "plan", "roster_file"])
def test_large_hostile_input_takes_little_time(name: str) -> None:
    for kind, data in bombs(decoders()[name], 2**17):
        assert seconds_of(decoders()[name], data) < SECONDS, kind


@pytest.mark.slow
@every_decoder
def test_a_megabyte_of_hostile_input_takes_little_time(name: str) -> None:
    for kind, data in bombs(decoders()[name], 2**20):
        assert seconds_of(decoders()[name], data) < SECONDS, kind


@pytest.mark.slow
@every_decoder
def test_large_hostile_input_takes_little_memory(name: str) -> None:
    for kind, data in bombs(decoders()[name], 2**16):
        assert memory_of(decoders()[name], data) < MEMORY_PER_BYTE * len(data) + MEMORY_AT_LEAST, kind


def seconds_of(decoder: Decoder, data: bytes) -> float:
    started = time.process_time()
    decoder.check(data)
    return time.process_time() - started


def memory_of(decoder: Decoder, data: bytes) -> int:
    tracemalloc.start()
    try:
        decoder.check(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bombs(decoder: Decoder, size: int) -> Iterator[tuple[str, bytes]]:
    """Input of `size` bytes and a little more, of each kind that is known to cost a decoder more than it is long."""
    deep = b""
    while len(deep) < size:
        deep = pack({"a": deep, "b": bytes(1000)})
    keys = b",".join(b'"%d":1' % number for number in range(size // 9))
    yield "empty parts", bytes(size)
    yield "a length of almost 4 GB", b"\xff" * size
    yield "many names", pack({f"{number:08d}": b"" for number in range(size // 16)})
    yield "parts in parts", deep
    yield "nested lists", b"[" * size
    yield "nested lists in TOML", b"a=" + b"[" * size
    yield "nested tables", b'{"a":' * (size // 5)
    yield "many keys", b"{" + keys + b"}"
    yield "one long number", json.dumps({"name": "x", "seed": 0}).encode().replace(b"0", b"9" * size)
    for content in (bytes(size), b"9" * size, pack({f"{number:09d}": b"" for number in range(size // 17)})):
        yield from ((f"{path} blown up", data) for path, data in blown_up(min(decoder.samples(), key=len), content))


def blown_up(data: bytes, content: bytes) -> Iterator[tuple[str, bytes]]:
    """The message with each of its first parts replaced, one at a time and also one level down."""
    try:
        parts = unpack(data)
    except PackError:
        return
    for name, part in itertools.islice(parts.items(), 4):
        yield name, pack(parts | {name: content})
        yield from ((f"{name}/{path}", pack(parts | {name: inner})) for path, inner in itertools.islice(blown_up(part, content), 1))


def least_plan(**changes: object) -> bytes:
    least = {"name": "a", "base": "b", "records": {"prompt": "{text}", "target": "{label}"}}
    return json.dumps(least | changes).encode()


# What the tests above and the fuzzer found, one case each.
FOUND = {
    "a header of nested lists": ("state_arrays", pack({"header": b"[" * 100_000})),
    "a round that is no finite number": ("state_arrays", pack({"header": b'{"base_sha256":"","experts":[],"round":1e999}'})),
    "a header in another order": ("state_arrays", pack({"header": b'{"round": 1, "experts": [], "base_sha256": ""}'})),
    "a plan of nested lists": ("plan", b"[" * 100_000),
    "a plan with half a surrogate pair": ("plan", least_plan(records={"prompt": "\ud800", "target": "x"})),
    "a plan with half a surrogate pair as bytes": ("plan", least_plan(name="\u0140").replace(b"\\u0140", b"\xed\xa0\x80")),
    "a plan that asks for infinite progress": ("plan", least_plan(release={"require": {"metric_above_base": math.inf}})),
    "a roster of nested lists": ("roster_file", b"a = " + b"[" * 100_000),
    "a roster of a number": ("roster_file", b'name = 1\ncoordinator = ""\ninstitutions = []\n'),
    "a roster with a number as a name": (
        "roster_file",
        b'name = "a"\ncoordinator = ""\ninstitutions = [{name = 1, public_key = ""}]\n',
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_was_found_once_is_refused(case: str) -> None:
    name, data = FOUND[case]
    with pytest.raises(ConsortiumError):
        decoders()[name].decode(data)


def test_a_name_of_any_characters_survives_the_roster_file() -> None:
    decoder, entry = decoders()["roster_file"], RosterEntry("tab\tdelete\x7fface\U0001f600", bytes(32))
    membership = Membership(entry.name, Roster((entry,)), bytes(32))
    assert decoder.decode(decoder.encode(membership)) == membership


def test_an_array_of_integers_is_no_tensor() -> None:
    header = state_header(State("", 0, {}))
    with pytest.raises(StateError):
        state_from_arrays(header, {"tensors/a": np.zeros(1, np.uint32)})
