"""A dealer whose shares give another secret than it committed to is proved to be one by its own commitments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.blame import Blame, Opening
from protocols.errors import NoProof
from protocols.parties import Parties
from protocols.proofs import MemberProof, WrongSecretProof, read_member_proof, write_member_proof
from protocols.secagg.opening import RECOVERY_SECRET, SELF_SEED
from tests.protocols.secagg.cohort import Sum, collect
from tests.protocols.secagg.test_culprits import committed_to_another_secret


def proofs(played: Sum, dealer: str) -> list[MemberProof]:
    opening = Opening(played.manifest, played.cohort.epoch, played.setup)
    return list(opening.wrong_dealer(dealer, tuple(played.uploads), played.answers()))


@pytest.mark.parametrize(("dealer", "secret"), [("ada", SELF_SEED), ("dom", RECOVERY_SECRET)])
def test_shares_of_another_secret_prove_their_dealer_dishonest(tmp_path: Path, dealer: str, secret: int) -> None:
    played = collect(cohort=committed_to_another_secret(dealer, secret))
    (proof,) = proofs(played, dealer)
    assert isinstance(proof, WrongSecretProof) and read_member_proof(write_member_proof(proof)) == proof
    blame = Blame(tmp_path, Parties(played.cohort.roster, played.cohort.coordinator.public_key))
    blame.keep(proof)
    assert blame.proved() == {dealer: f"{dealer} dealt shares of another {('self seed', 'recovery secret')[secret]} than it committed to"}
    fewer = replace(proof, shares=dict(list(proof.shares.items())[:2]), parts=dict(list(proof.parts.items())[:2]))
    with pytest.raises(NoProof, match="fewer shares"):
        fewer.accuse(played.cohort.roster, played.cohort.coordinator.public_key)
    wrong = replace(proof, shares={**proof.shares, "bio": bytes(33)})
    with pytest.raises(NoProof, match="share of bio"):
        wrong.accuse(played.cohort.roster, played.cohort.coordinator.public_key)


@pytest.mark.parametrize("dealer", ["ada", "dom"])
def test_nothing_is_proved_of_an_honest_dealer(tmp_path: Path, dealer: str) -> None:
    played = collect()
    blame = Blame(tmp_path, Parties(played.cohort.roster, played.cohort.coordinator.public_key))
    for proof in proofs(played, dealer):
        with pytest.raises(NoProof):
            proof.accuse(played.cohort.roster, played.cohort.coordinator.public_key)
        blame.keep(proof)
    assert blame.proved() == {} and not list(tmp_path.iterdir())
