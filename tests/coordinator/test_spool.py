"""Spools: an upload counts when it is whole, and is what its sender signed; whatever else is on disk never does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.spool import Spool
from protocols.errors import ProtocolError
from protocols.identity import Identity
from protocols.lanes import CHUNK_LANES, LaneFormat
from protocols.merkle import leaf_hash
from protocols.roster import Roster, RosterEntry
from protocols.secagg import Accumulator, SumManifest, UploadRoot, sign_root

ADA, BEA = (Identity(name, name.encode() * 10 + b"xx") for name in ("ada", "bea"))
ROSTER = Roster(tuple(RosterEntry(one.name, one.public_key) for one in (ADA, BEA)))
LANES = LaneFormat(5 * CHUNK_LANES + 3, wide=CHUNK_LANES + 1, bits=24)
MANIFEST = SumManifest(
    run="run", round=1, sum="update", attempt=1, slot=0, plan_hash=b"", epoch_hash=b"", state_hash=b"", layout_hash=b"", lanes=LANES,
    previous_transcript=b"", chain_head=b"", chain_length=0,
)  # fmt: skip
VECTOR = np.random.default_rng(1).integers(0, 2**24, LANES.size, dtype=np.uint32)
CHUNKS = list(LANES.written(VECTOR))
ROOT = sign_root(MANIFEST, [leaf_hash(chunk) for chunk in CHUNKS], ADA)
PARTS = [b"".join(CHUNKS[start : start + 2]) for start in (0, 2, 4)]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.secagg.inputs.PART_CHUNKS", 2)


def spool(folder: Path) -> Spool:
    return Spool(folder / "1", MANIFEST, ROSTER)


def fill(made: Spool, parts: list[bytes], root: UploadRoot = ROOT) -> Spool:
    made.begin(root)
    for part in parts:
        made.append(memoryview(part))
    return made


def test_resumed_upload_gives_the_same_accumulator(tmp_path: Path) -> None:
    finished, resumed = fill(spool(tmp_path), PARTS).finish(), spool(tmp_path).stored()
    assert resumed is not None
    for upload in (finished, resumed):
        accumulator = Accumulator(MANIFEST)
        accumulator.add(upload)
        assert np.array_equal(accumulator.total, VECTOR) and accumulator.roots == {"ada": ROOT.root}


@given(sizes=st.lists(st.integers(0, len(PARTS[0]) + 5), max_size=4))
@settings(max_examples=50)
def test_part_of_another_length_is_refused_and_changes_nothing(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    made = spool(tmp_path_factory.mktemp("spool"))
    made.begin(ROOT)
    for part in PARTS:
        for size in sizes:
            if size != len(part):
                with pytest.raises(ProtocolError, match="length"):
                    made.append(memoryview(bytes(size)))
        made.append(memoryview(part))
    assert made.finish().root == ROOT.root


def test_whole_upload_takes_no_further_part(tmp_path: Path) -> None:
    made = fill(spool(tmp_path), PARTS)
    assert made.missing_part is None
    for part in (b"", PARTS[0]):
        with pytest.raises(ProtocolError, match="length"):
            made.append(memoryview(part))
    assert made.finish().root == ROOT.root


@pytest.mark.parametrize("count", range(len(PARTS)))
def test_incomplete_upload_never_counts(tmp_path: Path, count: int) -> None:
    made = fill(spool(tmp_path), PARTS[:count])
    assert made.missing_part == count
    with pytest.raises(ProtocolError):
        made.finish()
    assert spool(tmp_path).stored() is None


@given(place=st.integers(0, sum(map(len, PARTS)) - 1), bit=st.integers(0, 7))
@settings(max_examples=50)
def test_altered_upload_never_counts(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    folder, data = tmp_path_factory.mktemp("spool"), bytearray(b"".join(PARTS))
    data[place] ^= 1 << bit
    ends = [0, len(PARTS[0]), len(PARTS[0]) + len(PARTS[1]), len(data)]
    sent = fill(spool(folder), [bytes(data[a:b]) for a, b in pairwise(ends)])
    with pytest.raises(ProtocolError):
        sent.finish()
    assert spool(folder).stored() is None
    fill(spool(folder), PARTS).finish()
    (folder / "1" / "spool").write_bytes(data)
    with pytest.raises(ProtocolError):
        spool(folder).stored()


def test_upload_that_is_begun_again_is_not_appended_to_the_former_one(tmp_path: Path) -> None:
    fill(spool(tmp_path), PARTS[:2])
    fill(spool(tmp_path), PARTS).finish()
    assert (tmp_path / "1" / "spool").read_bytes() == b"".join(PARTS)


def test_lost_file_is_one_sentence(tmp_path: Path) -> None:
    fill(spool(tmp_path), PARTS).finish()
    (tmp_path / "1" / "spool").unlink()
    with pytest.raises(ProtocolError, match="cannot be read"):
        spool(tmp_path).stored()


def test_root_that_its_sender_did_not_sign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError):
        spool(tmp_path).begin(UploadRoot("bea", ROOT.root, ROOT.signature))
    assert spool(tmp_path).stored() is None
