"""An upload that is made to be looked at: complete, signed, masked, and of keys that nobody has."""

from __future__ import annotations

import os

import numpy as np

from protocols.lanes import LaneFormat
from protocols.merkle import leaf_hash
from protocols.roster import Roster, RosterEntry
from protocols.secagg import check_upload, rehearse_upload


def test_a_rehearsed_upload_is_one_that_a_coordinator_would_take() -> None:
    lanes, members = LaneFormat(5000, 100, 24), ("ada", "bea", "cid", "dan")
    vector = np.arange(5000, dtype=np.uint32)
    made = [rehearse_upload("bea", vector, lanes, members, 1, os.urandom) for _ in range(2)]
    for one in made:
        roster = Roster((RosterEntry("bea", one.identity.public_key),))
        check_upload(one.manifest, roster, one.upload.root, one.upload.chunks, [leaf_hash(chunk) for chunk in one.upload.chunks])
        assert sum(map(len, one.upload.chunks)) == lanes.nbytes
        read = np.concatenate([lanes.read(chunk, number) for number, chunk in enumerate(one.upload.chunks)])
        assert (read == vector).sum() < 10
    assert made[0].upload.chunks != made[1].upload.chunks and made[0].identity.public_key != made[1].identity.public_key
