"""A member signs one proposal: for this manifest, of members alone, of threshold or more, with itself and the root that it sent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.errors import ProtocolError, TooFewSurvivors
from protocols.secagg import SurvivorProposal, certify
from tests.protocols.secagg.cohort import MEMBERS, OUTSIDER, Sum, collect


def proposed(played: Sum, *names: str, **roots: bytes) -> SurvivorProposal:
    return SurvivorProposal(played.manifest.hash, {name: played.proposal.roots[name] for name in names} | roots)


@pytest.mark.parametrize("names", [(), ("ada",), ("ada", "bio")])
def test_a_set_below_the_threshold_is_not_signed(names: tuple[str, ...]) -> None:
    played = collect()
    with pytest.raises(TooFewSurvivors, match=f"{len(names)} institutions sent their input and 3 are needed"):
        played.sign("ada", proposed(played, *names))


def test_a_set_for_another_manifest_is_not_signed() -> None:
    played = collect()
    other = collect(slot=1, cohort=played.cohort).manifest.hash
    with pytest.raises(ProtocolError, match="another manifest"):
        played.sign("ada", replace(played.proposal, manifest_hash=other))


def test_a_set_with_another_root_is_not_signed() -> None:
    played = collect()
    for root in (bytes(32), b"", played.uploads["bio"].root):
        with pytest.raises(ProtocolError, match="ada is not in the proposed set with what it sent"):
            played.sign("ada", proposed(played, "bio", "cor", ada=root))


def test_a_set_without_the_member_is_not_signed() -> None:
    played = collect(MEMBERS)
    with pytest.raises(ProtocolError, match="ada is not in the proposed set"):
        played.sign("ada", proposed(played, "bio", "cor", "dom"))


def test_a_set_with_someone_outside_the_epoch_is_not_signed() -> None:
    played = collect()
    with pytest.raises(ProtocolError, match="not a member of the epoch"):
        played.sign("ada", proposed(played, "ada", "bio", "cor", **{OUTSIDER: bytes(32)}))


def test_a_signature_counts_for_its_own_set_alone() -> None:
    played, cohort = collect(MEMBERS), collect().cohort
    smaller = proposed(played, "ada", "bio", "cor")
    signatures = {name: played.sign(name, smaller) for name in smaller.members}
    assert certify(played.manifest, cohort.epoch, cohort.roster, smaller, signatures).signatures == signatures
    for other in (played.proposal, proposed(played, "ada", "bio", cor=bytes(32))):
        with pytest.raises(TooFewSurvivors, match="0 institutions signed"):
            certify(played.manifest, cohort.epoch, cohort.roster, other, signatures)


def test_a_non_member_s_signature_is_not_counted() -> None:
    played = collect(MEMBERS)
    cohort, signatures = played.cohort, played.signatures()
    mixed = signatures | {"cor": signatures["bio"], OUTSIDER: signatures["ada"]}
    certificate = certify(played.manifest, cohort.epoch, cohort.roster, played.proposal, mixed)
    assert certificate.signatures.keys() == {"ada", "bio", "dom"}
