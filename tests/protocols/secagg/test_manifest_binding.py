"""Every mask depends on every field of the manifest, so that vectors masked for different manifests never cancel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from protocols.epoch import EpochState
from protocols.errors import SignatureError
from protocols.secagg import Accumulator, SumManifest
from tests.protocols.secagg.cohort import MEMBERS, Cohort, mask_input, plain_sum
from tests.protocols.secagg.mask_streams import Lanes, self_mask

ZEROS = np.zeros(3, np.uint32)
ONES = b"\1" * 32
HASHES = ("signature", "plan_hash", "state_hash", "layout_hash", "previous_transcript", "chain_head")
CHANGES: list[dict[str, object]] = [{"run": "other"}, {"round": 2}, {"sum": "evaluate"}, {"attempt": 2}, {"chain_length": 1}]
CHANGES += [{name: ONES} for name in HASHES]


def residue(cohort: Cohort, states: Mapping[str, EpochState], manifests: Mapping[str, SumManifest]) -> Lanes:
    """What the uploads of zeros add up to once every self mask is removed."""
    uploads = {name: mask_input(states[name], manifests[name], ZEROS, cohort.identities[name]).masked for name in MEMBERS}
    return plain_sum({name: upload - self_mask(states[name], manifests[name]) for name, upload in uploads.items()})


@pytest.mark.parametrize("victim", MEMBERS)
def test_two_manifests_one_victim_do_not_cancel(victim: str) -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    one = dict.fromkeys(MEMBERS, cohort.manifest())
    assert not residue(cohort, states, one).any()  # the weakened twin: one manifest for all
    assert residue(cohort, states, one | {victim: cohort.manifest(state=ONES)}).all()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
@pytest.mark.parametrize("part", ["self_seeds", "pair_seeds"])
def test_every_field_of_the_manifest_changes_pair_and_self_masks(part: str, change: dict[str, object]) -> None:
    cohort = Cohort()
    state, identity, first = cohort.certified()[0]["bio"], cohort.identities["bio"], cohort.manifest()
    other = replace(state, **{part: (ONES, ONES) if part == "self_seeds" else {**state.pair_seeds, "cor": (ONES, ONES)}})  # type: ignore[arg-type]
    first_mask, second_mask = (
        # All masks but those of the one part are equal in both uploads.
        mask_input(state, manifest, ZEROS, identity).masked - mask_input(other, manifest, ZEROS, identity).masked
        for manifest in (first, replace(first, **change))  # type: ignore[arg-type]
    )
    assert (first_mask != second_mask).all()


def test_an_upload_signed_for_another_manifest_is_refused() -> None:
    cohort = Cohort()
    state, accumulator = cohort.certified()[0]["ada"], Accumulator(cohort.manifest())
    with pytest.raises(SignatureError, match="ada"):
        accumulator.add(
            mask_input(state, cohort.manifest(state=ONES), ZEROS, cohort.identities["ada"]).checked(cohort.manifest(), cohort.roster)
        )
    assert not accumulator.roots and not accumulator.total.any()
