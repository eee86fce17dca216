"""The secure sum against the plain one, for every way in which institutions may drop out, and against a lying coordinator."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from protocols.epoch import (
    SUITE,
    EpochCertificate,
    EpochManifest,
    EpochState,
    begin_epoch,
    certify_epoch,
    confirm_epoch,
    deal_shares,
    threshold,
)
from protocols.errors import DishonestMember, ProtocolError, RosterError, SignatureError, ThresholdError, TooFewSurvivors
from protocols.identity import Identity
from protocols.roster import Roster, RosterEntry
from protocols.secagg import (
    Accumulator,
    SumManifest,
    SurvivorProposal,
    certify,
    mask_input,
    propose_survivors,
    run_secagg,
    sign_survivors,
    unmask,
    unmask_sum,
)
from protocols.secagg.parties import STAGES, Stage

NAMES = ("ada", "bio", "cor", "dom", "ems", "fir")


def vectors(n: int, size: int = 3) -> dict[str, NDArray[np.uint32]]:
    rng = np.random.default_rng(n)
    return {name: rng.integers(0, 2**32, size, dtype=np.uint32) for name in NAMES[:n]}


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


class Cohort:
    """Four institutions in a certified epoch of two slots, and a manifest for the first."""

    def __init__(self, colluding: int = 1, slots: int = 2) -> None:
        rng = random.Random(7)
        self.randomness = rng.randbytes
        self.identities = {name: Identity.generate(name, self.randomness) for name in NAMES[:4]}
        self.roster = Roster(tuple(RosterEntry(name, identity.public_key) for name, identity in self.identities.items()))
        t = threshold(4, colluding)
        self.epoch = EpochManifest("run", 1, self.roster.roster_hash, NAMES[:4], 4, colluding, t, SUITE, slots)
        self.begun = {n: begin_epoch(self.epoch, i, self.roster, self.randomness) for n, i in self.identities.items()}
        self.keys = {name: message for name, (_, message) in self.begun.items()}
        self.dealt = {n: deal_shares(s, self.keys, self.randomness, self.identities[n]) for n, (s, _) in self.begun.items()}
        self.shares = {name: message for name, (_, message) in self.dealt.items()}

    def certified(self) -> tuple[dict[str, EpochState], EpochCertificate]:
        confirmed = {n: confirm_epoch(s, self.shares, self.identities[n]) for n, (s, _) in self.dealt.items()}
        confirmations = {name: data for name, (_, data) in confirmed.items()}
        certificate = certify_epoch(self.epoch, self.roster, self.keys, self.shares, confirmations)
        return {name: state for name, (state, _) in confirmed.items()}, certificate

    def manifest(self, slot: int = 0, state: bytes = bytes(32)) -> SumManifest:
        none = bytes(32)
        return SumManifest("run", 1, "update", 1, slot, none, self.epoch.hash, state, none, 3, none, none, 0)


def test_setup_survives_the_ledger() -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    for state, _ in [*cohort.begun.values(), *cohort.dealt.values()]:
        assert type(state).from_bytes(state.to_bytes()).to_bytes() == state.to_bytes()
    assert EpochState.from_bytes(states["ada"].to_bytes()).pair_seeds["bio"] == states["bio"].pair_seeds["ada"]


def test_swapped_channel_key_is_refused() -> None:
    cohort = Cohort()
    own, _ = begin_epoch(cohort.epoch, cohort.identities["dom"], cohort.roster, cohort.randomness)
    forged = replace(own.own, sender="ada")
    with pytest.raises(SignatureError, match="ada"):
        deal_shares(cohort.begun["bio"][0], cohort.keys | {"ada": forged}, cohort.randomness, cohort.identities["bio"])


def test_setup_view_split_is_refused() -> None:
    cohort = Cohort()
    state, other = begin_epoch(cohort.epoch, cohort.identities["ada"], cohort.roster, cohort.randomness)
    shown = cohort.keys | {"ada": other}
    _, shares = deal_shares(state, shown, cohort.randomness, cohort.identities["ada"])
    with pytest.raises(ProtocolError, match="split the setup"):
        confirm_epoch(cohort.dealt["bio"][0], cohort.shares | {"ada": shares}, cohort.identities["bio"])


def test_an_uncommitted_share_names_its_dealer() -> None:
    cohort = Cohort()
    message = cohort.shares["ada"]
    altered = replace(message, share_commitments=bytes(len(message.share_commitments)), signature=b"")
    altered = replace(altered, signature=cohort.identities["ada"].sign(altered.signed()))
    with pytest.raises(DishonestMember, match="ada"):
        confirm_epoch(cohort.dealt["bio"][0], cohort.shares | {"ada": altered}, cohort.identities["bio"])


def test_two_manifests_one_victim_do_not_cancel() -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    zeros = np.zeros(3, np.uint32)
    manifests = [cohort.manifest(), *[cohort.manifest(state=b"\1" * 32)] * 3]
    masked = [mask_input(states[n], m, zeros, cohort.identities[n]).masked for n, m in zip(states, manifests, strict=True)]
    same = [mask_input(states[n], manifests[0], zeros, cohort.identities[n]).masked for n in states]
    assert not np.array_equal(np.sum(masked, 0, dtype=np.uint32), np.sum(same, 0, dtype=np.uint32))


def collected(cohort: Cohort, states: Mapping[str, EpochState], names: tuple[str, ...]) -> tuple[SumManifest, Accumulator]:
    manifest = cohort.manifest()
    accumulator = Accumulator(manifest, cohort.roster)
    for name in names:
        accumulator.add(mask_input(states[name], manifest, vectors(4)[name], cohort.identities[name]))
    return manifest, accumulator


def test_dropout_key_opens_its_slot_alone() -> None:
    cohort = Cohort()
    states, setup = cohort.certified()
    manifest, accumulator = collected(cohort, states, NAMES[:3])
    proposal = propose_survivors(accumulator)
    signed = {n: sign_survivors(states[n], manifest, proposal, proposal.roots[n], cohort.identities[n]) for n in NAMES[:3]}
    certificate = certify(manifest, cohort.epoch, cohort.roster, proposal, signed)
    answers = {n: unmask(states[n], manifest, certificate, cohort.roster, cohort.identities[n]) for n in NAMES[:3]}
    assert all(set(a.self_seeds) == set(NAMES[:3]) and set(a.recovery_secrets) == {"dom"} for a in answers.values())
    total = unmask_sum(accumulator, manifest, cohort.epoch, setup, certificate, answers)
    assert np.array_equal(total, np.sum([vectors(4)[n] for n in NAMES[:3]], 0, dtype=np.uint32))
    assert states["dom"].pair_seeds["ada"][0] != states["dom"].pair_seeds["ada"][1]


def test_a_wrong_share_names_its_sender() -> None:
    cohort = Cohort()
    states, setup = cohort.certified()
    manifest, accumulator = collected(cohort, states, NAMES[:3])
    proposal = propose_survivors(accumulator)
    signed = {n: sign_survivors(states[n], manifest, proposal, proposal.roots[n], cohort.identities[n]) for n in NAMES[:3]}
    certificate = certify(manifest, cohort.epoch, cohort.roster, proposal, signed)
    answers = {n: unmask(states[n], manifest, certificate, cohort.roster, cohort.identities[n]) for n in NAMES[:3]}
    answers["bio"] = replace(answers["bio"], self_seeds=dict(answers["bio"].self_seeds) | {"ada": bytes(33)})
    with pytest.raises(TooFewSurvivors, match="bio sent a wrong share"):
        unmask_sum(accumulator, manifest, cohort.epoch, setup, certificate, answers)


def test_a_set_without_the_member_or_with_another_root_is_not_signed() -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    manifest, accumulator = collected(cohort, states, NAMES[:4])
    proposal = propose_survivors(accumulator)
    for roots in (
        {n: r for n, r in proposal.roots.items() if n != "ada"},
        dict(proposal.roots) | {"ada": bytes(32)},
    ):
        with pytest.raises(ProtocolError, match="ada is not in the proposed set"):
            sign_survivors(states["ada"], manifest, SurvivorProposal(manifest.hash, roots), proposal.roots["ada"], cohort.identities["ada"])


def test_invented_institutions_are_refused() -> None:
    cohort = Cohort()
    invented = replace(cohort.epoch, members=("ada", "bio", "cor", "zoo"))
    with pytest.raises(RosterError, match="zoo"):
        begin_epoch(invented, cohort.identities["ada"], cohort.roster, cohort.randomness)
    states, _ = cohort.certified()
    manifest, accumulator = collected(cohort, states, NAMES[:4])
    proposal = SurvivorProposal(manifest.hash, accumulator.roots | {"zoo": bytes(32)})
    with pytest.raises(ProtocolError, match="not a member"):
        sign_survivors(states["ada"], manifest, proposal, accumulator.roots["ada"], cohort.identities["ada"])


def test_a_non_member_s_signature_is_not_counted() -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    manifest, accumulator = collected(cohort, states, NAMES[:3])
    proposal = propose_survivors(accumulator)
    signed = {n: sign_survivors(states[n], manifest, proposal, proposal.roots[n], cohort.identities[n]) for n in NAMES[:2]}
    outsider = cohort.identities["dom"].sign(b"consortium survivors 1\0" + manifest.hash + proposal.hash)
    with pytest.raises(TooFewSurvivors, match="2 institutions signed"):
        certify(manifest, cohort.epoch, cohort.roster, proposal, signed | {"dom": outsider})


@pytest.mark.parametrize("change", [{"threshold": 2}, {"colluding": 3}, {"suite": "SA-0"}, {"n": 3}, {"threshold": 5}])
def test_weaker_terms_are_refused_before_any_key_is_made(change: dict[str, int | str]) -> None:
    cohort = Cohort()
    with pytest.raises(ProtocolError):
        begin_epoch(replace(cohort.epoch, **change), cohort.identities["ada"], cohort.roster, cohort.randomness)  # type: ignore[arg-type]


def test_an_altered_or_repeated_input_changes_nothing() -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    manifest, accumulator = collected(cohort, states, ("ada",))
    before = accumulator.total.copy()
    good = mask_input(states["bio"], manifest, vectors(4)["bio"], cohort.identities["bio"])
    again = mask_input(states["ada"], manifest, vectors(4)["ada"], cohort.identities["ada"])
    for bad in (replace(good, masked=good.masked + 1), replace(good, sender="cor"), replace(good, masked=good.masked[:2]), again):
        with pytest.raises(ProtocolError):
            accumulator.add(bad)
    assert np.array_equal(accumulator.total, before)


@pytest.mark.parametrize(("x25519", "mlkem"), [(None, b"short"), (bytes(32), None)])
def test_a_channel_key_that_is_none_names_its_sender(x25519: bytes | None, mlkem: bytes | None) -> None:
    cohort = Cohort()
    keys = cohort.keys["ada"]
    altered = replace(keys, x25519=x25519 or keys.x25519, mlkem=mlkem or keys.mlkem)
    altered = replace(altered, signature=cohort.identities["ada"].sign(altered.signed()))
    with pytest.raises(DishonestMember, match="ada"):
        deal_shares(cohort.begun["bio"][0], cohort.keys | {"ada": altered}, cohort.randomness, cohort.identities["bio"])


def test_a_channel_ciphertext_of_a_wrong_length_names_its_sender() -> None:
    cohort = Cohort()
    message = cohort.shares["ada"]
    altered = replace(message, ciphertexts={**message.ciphertexts, "bio": b"short"})
    altered = replace(altered, signature=cohort.identities["ada"].sign(altered.signed()))
    with pytest.raises(DishonestMember, match="ada"):
        confirm_epoch(cohort.dealt["bio"][0], cohort.shares | {"ada": altered}, cohort.identities["bio"])


def test_one_key_under_two_names_is_no_roster() -> None:
    key = Identity.generate("ada", random.Random(1).randbytes).public_key
    with pytest.raises(RosterError, match="one key"):
        Roster((RosterEntry("ada", key), RosterEntry("bio", key)))
