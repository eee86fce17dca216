"""A slot, an epoch and a size that the epoch's members did not agree on are used by no member."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.errors import ProtocolError
from tests.protocols.secagg.cohort import Cohort, Sum, collect, mask_input

ZEROS = np.zeros(3, np.uint32)


@pytest.mark.parametrize("slot", [2, 16, 10**18])
def test_a_slot_beyond_the_epoch_s_is_refused_at_every_stage(slot: int) -> None:
    played = collect()
    beyond = replace(played, manifest=replace(played.manifest, slot=slot))
    check_refused(beyond, f"slot {slot} does not exist in an epoch of 2")


def test_another_epoch_is_refused_at_every_stage() -> None:
    played = collect()
    check_refused(replace(played, manifest=replace(played.manifest, epoch_hash=bytes(32))), "another epoch")


def check_refused(asked: Sum, reason: str) -> None:
    cohort, proposal = asked.cohort, replace(collect().proposal, manifest_hash=asked.manifest.hash)
    with pytest.raises(ProtocolError, match=reason):
        mask_input(asked.states["ada"], asked.manifest, ZEROS, cohort.identities["ada"])
    with pytest.raises(ProtocolError, match=reason):
        asked.sign("ada", proposal)
    signatures = {n: cohort.identities[n].sign(b"consortium survivors 1\0" + asked.manifest.hash + proposal.hash) for n in proposal.roots}
    with pytest.raises(ProtocolError, match=reason):
        asked.unmask("ada", replace(collect().certificate(), proposal=proposal, signatures=signatures))


@pytest.mark.parametrize("vector", [ZEROS[:2], np.zeros(4, np.uint32), np.zeros((3, 1), np.uint32), np.zeros(3, np.int64)])
def test_a_vector_of_another_form_is_not_masked(vector: np.ndarray) -> None:
    cohort = Cohort()
    state = cohort.certified()[0]["ada"]
    with pytest.raises(ProtocolError, match="the manifest asks for 3"):
        mask_input(state, cohort.manifest(), vector, cohort.identities["ada"])


def test_masking_leaves_the_vector_as_it_is() -> None:
    cohort, vector = Cohort(), np.arange(3, dtype=np.uint32)
    mask_input(cohort.certified()[0]["ada"], cohort.manifest(), vector, cohort.identities["ada"])
    assert vector.tolist() == [0, 1, 2]
