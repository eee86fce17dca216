"""The secure sum against the plain one, for every way in which institutions may drop out, and against a lying coordinator."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from protocols.epoch import EpochState, confirm_epoch, deal_shares, threshold
from protocols.errors import DishonestMember, ProtocolError, RosterError, ThresholdError, TooFewSurvivors
from protocols.identity import Identity
from protocols.roster import Roster, RosterEntry
from protocols.secagg import Accumulator, SumManifest, SurvivorProposal, run_secagg, sign_survivors
from protocols.secagg.parties import STAGES, Stage
from tests.protocols.secagg.cohort import NAMES, Cohort, mask_input, vectors, with_part


def check_against_plain_sum(n: int, drop: Mapping[str, Stage], colluding: int = 0) -> None:
    """The oracle: who has to survive, and what the sum then is, said without the protocol."""
    inputs = vectors(n)
    members = [name for name in inputs if drop.get(name) not in ("keys", "shares")]
    survivors = [name for name in members if drop.get(name) != "masked"]
    signers = [name for name in survivors if drop.get(name) != "survivors"]
    answering = [name for name in signers if drop.get(name) != "unmask"]
    t = threshold(len(members), colluding)
    if t - colluding < 2 or t > len(members) or min(len(survivors), len(signers), len(answering)) < t:
        with pytest.raises(TooFewSurvivors):
            run_secagg(inputs, colluding=colluding, drop=drop)
        return
    result = run_secagg(inputs, colluding=colluding, drop=drop)
    assert result.survivors == tuple(survivors)
    assert np.array_equal(result.total, np.sum([inputs[name] for name in survivors], 0, dtype=np.uint32))


@pytest.mark.parametrize(
    "drop",
    [{}, {"ada": "keys"}, {"bio": "shares"}, {"cor": "masked"}, {"dom": "survivors"}, {"ems": "unmask"}, {"ada": "keys", "ems": "masked"}],
)
def test_one_dropout_at_each_stage(drop: dict[str, Stage]) -> None:
    check_against_plain_sum(5, drop)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_pattern_of_dropouts_up_to_four(n: int) -> None:
    for pattern in itertools.product((None, *STAGES), repeat=n):
        check_against_plain_sum(n, {name: stage for name, stage in zip(NAMES, pattern, strict=False) if stage})


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 6])
def test_every_multiset_of_stages_for_five_and_six(n: int) -> None:
    shuffled = random.Random(n)
    for stages in itertools.combinations_with_replacement((None, *STAGES), n):
        names = shuffled.sample(NAMES[:n], n)
        check_against_plain_sum(n, {name: stage for name, stage in zip(names, stages, strict=True) if stage}, colluding=n % 2)


@pytest.mark.slow
def test_two_hundred_institutions_with_dropouts() -> None:
    rng = np.random.default_rng(200)
    inputs = {f"i{number:03}": rng.integers(0, 2**32, 100, dtype=np.uint32) for number in range(200)}
    drop: dict[str, Stage] = {"i000": "masked", "i101": "masked", "i199": "masked", "i050": "survivors", "i150": "unmask"}
    left = [name for name in inputs if drop.get(name) != "masked"]
    assert np.array_equal(run_secagg(inputs, colluding=9, drop=drop).total, np.sum([inputs[name] for name in left], 0, dtype=np.uint32))


def test_a_vector_longer_than_a_tile_is_summed() -> None:
    inputs = vectors(3, 200_001)
    assert np.array_equal(run_secagg(inputs).total, np.sum(list(inputs.values()), 0, dtype=np.uint32))


def test_every_institution_is_charged_its_bytes() -> None:
    result = run_secagg(vectors(4, 10_000), drop={"dom": "masked"})
    assert all(40_000 < result.bytes_up[name] < 50_000 for name in ("ada", "bio", "cor"))
    assert 0 < result.bytes_up["dom"] < 10_000


@pytest.mark.parametrize(("n", "given", "colluding"), [(4, 2, 0), (3, 3, 2), (3, 4, 0), (1, None, 0), (4, 3, 2)])
def test_unsafe_thresholds_are_refused(n: int, given: int | None, colluding: int) -> None:
    with pytest.raises(ThresholdError):
        run_secagg(vectors(n), threshold=given, colluding=colluding)


def test_setup_survives_the_ledger() -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    for state, _ in [*cohort.begun.values(), *cohort.dealt.values()]:
        assert type(state).from_bytes(state.to_bytes()).to_bytes() == state.to_bytes()
    assert EpochState.from_bytes(states["ada"].to_bytes()).pair_seeds["bio"] == states["bio"].pair_seeds["ada"]


def test_setup_view_split_is_refused() -> None:
    cohort = Cohort()
    state, other = cohort.begin("ada")
    shown = cohort.keys | {"ada": other}
    _, shares = deal_shares(state, shown, cohort.randomness, cohort.identities["ada"])
    with pytest.raises(ProtocolError, match="split the setup"):
        confirm_epoch(cohort.dealt["bio"][0], cohort.relayed("bio") | {"ada": shares.relayed(2)}, cohort.identities["bio"])


def collected(cohort: Cohort, states: Mapping[str, EpochState], names: tuple[str, ...]) -> tuple[SumManifest, Accumulator]:
    manifest = cohort.manifest()
    accumulator = Accumulator(manifest)
    for name in names:
        accumulator.add(mask_input(states[name], manifest, vectors(4)[name], cohort.identities[name]).checked(manifest, cohort.roster))
    return manifest, accumulator


def test_invented_institutions_are_refused() -> None:
    cohort = Cohort()
    with pytest.raises(RosterError, match="zoo"):
        cohort.begin("ada", members=("ada", "bio", "cor", "zoo"))
    states, _ = cohort.certified()
    manifest, accumulator = collected(cohort, states, NAMES[:4])
    proposal = SurvivorProposal(manifest.hash, accumulator.roots | {"zoo": bytes(32)})
    with pytest.raises(ProtocolError, match="not a member"):
        sign_survivors(states["ada"], manifest, proposal, accumulator.roots["ada"], cohort.identities["ada"])


@pytest.mark.parametrize("change", [{"threshold": 2}, {"colluding": 3}, {"suite": "SA-0"}, {"n": 3}, {"threshold": 5}])
def test_weaker_terms_are_refused_before_any_key_is_made(change: dict[str, int | str]) -> None:
    with pytest.raises(ProtocolError):
        Cohort().begin("ada", **change)


def test_an_altered_or_repeated_input_changes_nothing() -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    manifest, accumulator = collected(cohort, states, ("ada",))
    before = accumulator.total.copy()
    good = mask_input(states["bio"], manifest, vectors(4)["bio"], cohort.identities["bio"])
    again = mask_input(states["ada"], manifest, vectors(4)["ada"], cohort.identities["ada"])
    for bad in (replace(good, masked=good.masked + 1), replace(good, sender="cor"), replace(good, masked=good.masked[:2]), again):
        with pytest.raises(ProtocolError):
            accumulator.add(bad.checked(manifest, cohort.roster))
    assert np.array_equal(accumulator.total, before)


@pytest.mark.parametrize(("x25519", "mlkem"), [(None, b"short"), (bytes(32), None)])
def test_a_channel_key_that_is_none_names_its_sender(x25519: bytes | None, mlkem: bytes | None) -> None:
    cohort = Cohort()
    keys = cohort.keys["ada"]
    altered = replace(keys, x25519=x25519 or keys.x25519, mlkem=mlkem or keys.mlkem)
    altered = altered.signed_by(cohort.identities["ada"].sign)
    with pytest.raises(DishonestMember, match="ada"):
        deal_shares(cohort.begun["bio"][0], cohort.keys | {"ada": altered}, cohort.randomness, cohort.identities["bio"])


def test_a_channel_ciphertext_of_a_wrong_length_names_its_sender() -> None:
    cohort = Cohort()
    message = cohort.shares["ada"]
    altered = cohort.signed(with_part(message, 2, ciphertext=b"short"))
    with pytest.raises(DishonestMember, match="ada sent a channel ciphertext of a wrong length"):
        confirm_epoch(cohort.dealt["bio"][0], cohort.relayed("bio") | {"ada": altered.relayed(2)}, cohort.identities["bio"])


def test_one_key_under_two_names_is_no_roster() -> None:
    key = Identity.generate("ada", random.Random(1).randbytes).public_key
    with pytest.raises(RosterError, match="one key"):
        Roster((RosterEntry("ada", key), RosterEntry("bio", key)))
