"""Nothing is opened without signatures of at least threshold members of the set on exactly this set and manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from protocols.errors import ProtocolError, SignatureError, TooFewSurvivors
from protocols.secagg import SurvivorCertificate, SurvivorProposal
from tests.protocols.secagg.cohort import OUTSIDER, Cohort, Sum, collect

Forgery = tuple[SurvivorCertificate, type[ProtocolError], str]


def signed_by(played: Sum, name: str, proposal: SurvivorProposal) -> bytes:
    """The signature of someone who signs whatever it is shown: a colluding institution."""
    return played.cohort.identities[name].sign(b"consortium survivors 1\0" + played.manifest.hash + proposal.hash)


def unsigned(played: Sum) -> Forgery:
    return SurvivorCertificate(played.proposal, {}), TooFewSurvivors, "0 institutions signed the set and 3"


def too_few(played: Sum) -> Forgery:
    signatures = {name: played.signatures()[name] for name in ("ada", "bio")}
    return SurvivorCertificate(played.proposal, signatures), TooFewSurvivors, "2 institutions signed the set and 3"


def invented(played: Sum) -> Forgery:
    return SurvivorCertificate(played.proposal, dict.fromkeys(played.uploads, bytes(64))), SignatureError, "not of a member"


def swapped(played: Sum) -> Forgery:
    good = played.signatures()
    return SurvivorCertificate(played.proposal, good | {"bio": good["cor"], "cor": good["bio"]}), SignatureError, "not of a member"


def by_a_member_outside_the_set(played: Sum) -> Forgery:
    good = played.signatures()
    signatures = {"ada": good["ada"], "bio": good["bio"], "dom": signed_by(played, "dom", played.proposal)}
    return SurvivorCertificate(played.proposal, signatures), SignatureError, "not of a member"


def by_an_outsider(played: Sum) -> Forgery:
    roots = {name: root for name, root in played.proposal.roots.items() if name != "cor"} | {OUTSIDER: bytes(32)}
    proposal = SurvivorProposal(played.manifest.hash, roots)
    signatures = {name: signed_by(played, name, proposal) for name in roots}
    return SurvivorCertificate(proposal, signatures), ProtocolError, "not a member of the epoch"


def below_the_threshold(played: Sum) -> Forgery:
    proposal = SurvivorProposal(played.manifest.hash, {name: played.proposal.roots[name] for name in ("ada", "bio")})
    signatures = {name: signed_by(played, name, proposal) for name in ("ada", "bio")}
    return SurvivorCertificate(proposal, signatures), TooFewSurvivors, "2 institutions"


def of_another_set(played: Sum) -> Forgery:
    larger = SurvivorProposal(played.manifest.hash, {**played.proposal.roots, "dom": bytes(32)})
    return SurvivorCertificate(larger, played.signatures()), SignatureError, "not of a member"


def of_another_manifest(played: Sum) -> Forgery:
    other = collect(slot=1, cohort=played.cohort)
    return other.certificate(), ProtocolError, "another manifest"


def of_another_manifest_relabelled(played: Sum) -> Forgery:
    other = collect(slot=1, cohort=played.cohort).certificate()
    proposal = replace(other.proposal, manifest_hash=played.manifest.hash)
    return replace(other, proposal=proposal), SignatureError, "not of a member"


@pytest.mark.parametrize(
    "forge",
    [
        unsigned, too_few, invented, swapped, by_a_member_outside_the_set, by_an_outsider, below_the_threshold, of_another_set,
        of_another_manifest, of_another_manifest_relabelled,
    ],
)  # fmt: skip
def test_a_certificate_that_does_not_hold_opens_nothing(forge: Callable[[Sum], Forgery]) -> None:
    played = collect()
    assert played.unmask("ada", played.certificate()).self_seeds.keys() == set(played.uploads)
    certificate, error, reason = forge(played)
    with pytest.raises(error, match=reason):
        played.unmask("ada", certificate)


def test_who_is_outside_the_set_opens_nothing() -> None:
    played = collect()
    with pytest.raises(ProtocolError, match="dom is not in the certified set"):
        played.unmask("dom", played.certificate())


def test_a_certificate_of_another_epoch_opens_nothing() -> None:
    played, other = collect(), collect(cohort=Cohort(slots=3))
    with pytest.raises(ProtocolError, match="another epoch"):
        replace(other, states=played.states).unmask("ada", other.certificate())
