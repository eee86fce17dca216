"""I-8: whatever two honest survivors' inputs are, the coordinator and who colludes with it see the same bytes if the sum is the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.epoch import EpochState
from tests.protocols.secagg.cohort import MEMBERS, Sum, collect, mask_input, plain_sum, vectors
from tests.protocols.secagg.mask_streams import Lanes, pair_mask

COLLUDER, LEFT_OUT = "cor", "dom"


def view(played: Sum) -> list[bytes]:
    """All bytes of the sum that the coordinator sees or computes, and everything that the colluding member holds."""
    uploads = [part for name in sorted(played.uploads) for part in sent(played, name)]
    answers = played.answers()
    opened = [answers[name].to_bytes() for name in sorted(answers)]
    return [*uploads, played.certificate().to_bytes(), *opened, played.total(answers).tobytes(), played.states[COLLUDER].to_bytes()]


def sent(played: Sum, name: str) -> tuple[bytes, bytes, bytes]:
    upload = played.uploads[name]
    return upload.masked.tobytes(), upload.root, upload.signature


def with_pair_seed(state: EpochState, other: str, seed: bytes) -> EpochState:
    return replace(state, pair_seeds={**state.pair_seeds, other: (seed,) * state.manifest.slots})


def moved(played: Sum, giver: str, taker: str, shift: Lanes, states: dict[str, EpochState]) -> Sum:
    """The same sum with `shift` moved from one input to the other, masked by the given states."""
    inputs = vectors(4)
    inputs |= {giver: inputs[giver] - shift, taker: inputs[taker] + shift}
    uploads = {n: mask_input(states[n], played.manifest, inputs[n], played.cohort.identities[n]) for n in played.uploads}
    return replace(played, states=states, uploads=uploads)


@pytest.mark.parametrize("names", [MEMBERS[:3], MEMBERS], ids=["one dropout", "nobody drops out"])
@pytest.mark.parametrize(("taker", "giver"), [("ada", "bio"), ("bio", "ada")])
def test_what_moves_between_two_honest_survivors_is_invisible(taker: str, giver: str, names: tuple[str, ...]) -> None:
    played = collect(names)
    seed = b"\7" * 32
    states = dict(played.states) | {taker: with_pair_seed(played.states[taker], giver, seed)}
    states |= {giver: with_pair_seed(played.states[giver], taker, seed)}
    # Moving this difference undoes exactly what the other pair stream changes: any difference is as likely as any other.
    shift = pair_mask(played.states[taker], giver, played.manifest) - pair_mask(states[taker], giver, played.manifest)
    assert shift.all()
    assert view(moved(played, giver, taker, shift, states)) == view(played)
    assert np.array_equal(played.total(played.answers()), plain_sum({name: vectors(4)[name] for name in names}))
    # The weakened twin: with the pair's stream known, the move shows.
    assert view(moved(played, giver, taker, shift, dict(played.states))) != view(played)


@pytest.mark.parametrize("other", ["bio", LEFT_OUT])
def test_the_view_holds_no_pair_seed_between_honest_survivors(other: str) -> None:
    played = collect()
    everything = b"".join(view(played)) + b"".join(message.to_bytes() for message in played.setup.shares.values())
    assert (played.states["ada"].pair_seeds[other][0] in everything) is False
    assert played.states[COLLUDER].pair_seeds["ada"][0] in everything
