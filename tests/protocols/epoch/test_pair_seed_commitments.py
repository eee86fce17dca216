"""Who seals or opens another pair seed than it used is found out: by its own signed commitment, or by that of the other of the pair."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from protocols.epoch import Confirmation, EpochCertificate, check_opened_seeds, check_pair_seed, disputed_pairs, open_recovery
from protocols.epoch.channel import seal_recovery
from protocols.epoch.checks import certified
from protocols.epoch.published import commit_row
from protocols.errors import DishonestMember, ProtocolError
from tests.protocols.secagg.cohort import MEMBERS, Cohort

PAIRS = list(itertools.permutations(MEMBERS, 2))
OTHER = bytes(32)


def confirmations(cohort: Cohort, change: Callable[[Confirmation], Confirmation] = lambda one: one) -> dict[str, Confirmation]:
    """All confirmations, that of dom changed and signed by it again."""
    given = {name: confirmation for name, (_, confirmation) in cohort.confirmed().items()}
    changed = change(given["dom"])
    signature = cohort.identities["dom"].sign(certified(cohort.epoch, changed.setup_hash, changed.published))
    return given | {"dom": replace(changed, signature=signature)}


def recovery_of(cohort: Cohort, slot: int) -> bytes:
    return cohort.dealt["dom"][0].recovery_secrets[slot]


def seeds_of(cohort: Cohort, slot: int) -> dict[str, bytes]:
    return {name: seeds[slot] for name, seeds in cohort.confirmed()["dom"][0].pair_seeds.items()}


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("other", MEMBERS[:3])
def test_an_envelope_with_another_seed_proves_its_member_dishonest(slot: int, other: str) -> None:
    cohort = Cohort()

    def change(honest: Confirmation) -> Confirmation:
        envelopes = list(honest.envelopes)
        envelopes[slot] = seal_recovery(cohort.epoch, "dom", slot, recovery_of(cohort, slot), seeds_of(cohort, slot) | {other: OTHER})
        return replace(honest, envelopes=tuple(envelopes))

    setup = cohort.certify(confirmations(cohort, change))
    with pytest.raises(DishonestMember, match=f"dom published an envelope with another pair seed for {other} than it committed to"):
        open_recovery(cohort.epoch, setup.confirmations["dom"], slot, recovery_of(cohort, slot))
    assert open_recovery(cohort.epoch, setup.confirmations["dom"], 1 - slot, recovery_of(cohort, 1 - slot)) == seeds_of(cohort, 1 - slot)


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("other", MEMBERS[:3])
def test_a_row_with_another_seed_is_disputed_with_exactly_its_other_member(slot: int, other: str) -> None:
    cohort = Cohort()

    def change(honest: Confirmation) -> Confirmation:
        rows = list(honest.rows)
        rows[slot] = commit_row(cohort.epoch, "dom", seeds_of(cohort, slot) | {other: OTHER})
        return replace(honest, rows=tuple(rows))

    given = confirmations(cohort, change)
    assert disputed_pairs(cohort.epoch, given) == [(other, "dom")]
    with pytest.raises(ProtocolError, match=f"{other} and dom committed to different pair seeds; leave both out"):
        cohort.certify(given)


def test_honest_members_dispute_nothing() -> None:
    cohort = Cohort()
    assert disputed_pairs(cohort.epoch, confirmations(cohort)) == []


@pytest.mark.parametrize("cut", [lambda rows: rows[:1], lambda rows: (rows[0], rows[1][:-32]), lambda rows: (rows[0] + bytes(32), rows[1])])
def test_a_member_that_commits_to_too_few_or_too_many_seeds_is_named(cut: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> None:
    cohort = Cohort()
    with pytest.raises(DishonestMember, match="dom did not commit to every pair seed"):
        cohort.certify(confirmations(cohort, lambda honest: replace(honest, rows=cut(honest.rows))))


@pytest.mark.parametrize(("member", "other"), PAIRS)
def test_whoever_has_the_certificate_can_check_any_opened_seed(member: str, other: str) -> None:
    cohort = Cohort()
    states, setup = cohort.certified()
    public = EpochCertificate.from_bytes(setup.to_bytes())  # without what the coordinator keeps
    for slot in (0, 1):
        shown, seed = setup.confirmations[member].shown(slot), states[member].pair_seeds[other][slot]
        check_pair_seed(cohort.epoch, public, member, other, slot, shown, seed)
        for wrong in (OTHER, states[member].pair_seeds[other][1 - slot]):
            with pytest.raises(ProtocolError, match=f"of {member} and {other} is not the one that {member} committed to"):
                check_pair_seed(cohort.epoch, public, member, other, slot, shown, wrong)


@pytest.mark.parametrize("me", MEMBERS)
def test_a_member_knows_the_seeds_of_its_own_pairs_whoever_is_missing(me: str) -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    opened = {"dom": {name: states[name].pair_seeds["dom"][0] for name in MEMBERS[:3]}}
    check_opened_seeds(states[me], 0, {}, opened)
    for survivor in MEMBERS[:3]:
        wrong = {"dom": {**opened["dom"], survivor: OTHER}}
        if me in ("dom", survivor):
            with pytest.raises(ProtocolError, match=f"the pair seed that is shown of dom and {survivor} is not theirs"):
                check_opened_seeds(states[me], 0, {}, wrong)
        else:
            check_opened_seeds(states[me], 0, {}, wrong)


def test_only_the_row_that_was_signed_for_the_slot_counts() -> None:
    cohort = Cohort()
    states, setup = cohort.certified()
    dom, seed = setup.confirmations["dom"], states["dom"].pair_seeds["ada"][0]
    shown = dom.shown(0)
    forged = commit_row(cohort.epoch, "dom", seeds_of(cohort, 0) | {"ada": OTHER})
    others = (
        (0, dom.shown(1)),
        (1, shown),
        (2, shown),
        (0, replace(shown, row=forged)),
        (0, replace(shown, row=forged, row_hashes=(shown.row_hashes[1], shown.row_hashes[1]))),
        (0, replace(shown, row_hashes=shown.row_hashes[:1])),
        (0, replace(shown, envelopes_hash=OTHER)),
        (0, replace(shown, incarnation=2)),
        (0, setup.confirmations["cor"].shown(0)),
    )
    for slot, row in others:
        with pytest.raises(ProtocolError, match=f"the row shown of dom is not the one that it signed for slot {slot}"):
            check_pair_seed(cohort.epoch, setup, "dom", "ada", slot, row, seed)
