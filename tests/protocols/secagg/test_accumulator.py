"""An upload is in the sum whole or not at all, whatever its sender signed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.errors import EncodingError
from protocols.lanes import CHUNK_LANES, LaneFormat
from protocols.merkle import leaf_hash
from protocols.secagg import Accumulator, check_upload, sign_root
from tests.protocols.secagg.cohort import Cohort


def test_signed_upload_that_ends_in_no_lane_leaves_nothing_in_the_sum() -> None:
    cohort = Cohort()
    narrow = replace(cohort.manifest(), lanes=LaneFormat(CHUNK_LANES + 1, 0, 20))
    manifest = narrow.signed_by(cohort.coordinator.sign)
    chunks = [bytes(5 * CHUNK_LANES // 2 - 1) + b"\1", b"\0\0\0\0\1"]
    leaves = [leaf_hash(chunk) for chunk in chunks]
    upload = check_upload(manifest, cohort.roster, sign_root(manifest, leaves, cohort.identities["ada"]), chunks, leaves)
    accumulator = Accumulator(manifest)
    with pytest.raises(EncodingError, match="half byte"):
        accumulator.add(upload)
    assert not accumulator.total.any() and not accumulator.roots
