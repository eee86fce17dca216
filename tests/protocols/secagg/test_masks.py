"""An upload is the vector under its self mask and one mask for every other member; only all of them together cancel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.protocols.secagg.cohort import MEMBERS, Cohort, collect, mask_input, plain_sum, vectors
from tests.protocols.secagg.mask_streams import Lanes, pair_mask, self_mask

LANES = 4096


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("name", MEMBERS)
def test_an_upload_is_the_vector_under_the_masks_of_its_slot(name: str, slot: int) -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    state, manifest, vector = states[name], cohort.manifest(slot), vectors(4)[name]
    others = [other for other in MEMBERS if other != name]
    expected = plain_sum({"": vector, name: self_mask(state, manifest)} | {other: pair_mask(state, other, manifest) for other in others})
    assert np.array_equal(mask_input(state, manifest, vector, cohort.identities[name]).masked, expected)


def test_the_uploads_of_a_proper_subset_stay_uniform_without_their_self_masks() -> None:
    played, inputs = collect(MEMBERS, size=LANES), vectors(4, LANES)
    for count in range(1, len(MEMBERS) + 1):
        for names in itertools.combinations(MEMBERS, count):
            residue = plain_sum({n: played.uploads[n].masked - self_mask(played.states[n], played.manifest) - inputs[n] for n in names})
            assert looks_uniform(residue) == (count < len(MEMBERS)), names
            assert residue.any() == (count < len(MEMBERS)), names


def test_an_upload_stays_uniform_without_its_pair_masks() -> None:
    played, inputs = collect(MEMBERS, size=LANES), vectors(4, LANES)
    for name, upload in played.uploads.items():
        pairs = plain_sum({other: pair_mask(played.states[name], other, played.manifest) for other in MEMBERS if other != name})
        assert looks_uniform(upload.masked - inputs[name] - pairs)


def looks_uniform(lanes: Lanes) -> bool:
    """Chi-squared over the bytes, six deviations wide: 255 degrees of freedom have a deviation of 22.6."""
    data = np.frombuffer(lanes.tobytes(), np.uint8)
    expected = len(data) / 256
    return abs(float(((np.bincount(data, minlength=256) - expected) ** 2 / expected).sum()) - 255) < 6 * 22.6
