"""The one set whose inputs are summed: proposed once, signed by its members, certified by threshold many (PROTOCOL, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.codec import Message
from protocols.epoch import EpochManifest, EpochState
from protocols.errors import ProtocolError, SignatureError, TooFewSurvivors
from protocols.identity import Identity, verify
from protocols.roster import Roster
from protocols.secagg.manifest import SumManifest, check_epoch


@dataclass(frozen=True)
class SurvivorProposal(Message):
    """The one set whose inputs are summed, with the root that each member sent."""

    manifest_hash: bytes
    roots: Mapping[str, bytes]

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(sorted(self.roots))


@dataclass(frozen=True)
class SurvivorCertificate(Message):
    """A set with the signatures of at least threshold of its members."""

    proposal: SurvivorProposal
    signatures: Mapping[str, bytes]


def propose_survivors(manifest: SumManifest, roots: Mapping[str, bytes]) -> SurvivorProposal:
    """The set of everyone whose input is in the sum."""
    return SurvivorProposal(manifest.hash, dict(sorted(roots.items())))


def sign_survivors(epoch: EpochState, manifest: SumManifest, proposal: SurvivorProposal, root: bytes, identity: Identity) -> bytes:
    """A member's signature on a set that holds it with the root it sent.

    Raises:
        ProtocolError, TooFewSurvivors: the set is not one that may be opened.
    """
    check_epoch(epoch.manifest, manifest)
    _check_proposal(epoch.manifest, manifest, proposal)
    if proposal.roots.get(epoch.sender) != root:
        raise ProtocolError(f"{epoch.sender} is not in the proposed set with what it sent")
    return identity.sign(signed_set(manifest, proposal))


def certify(
    manifest: SumManifest, epoch: EpochManifest, roster: Roster, proposal: SurvivorProposal, signatures: Mapping[str, bytes]
) -> SurvivorCertificate:
    """A certificate of the valid signatures by members of the set.

    Raises:
        TooFewSurvivors: fewer than the threshold.
    """
    valid = {name: signature for name, signature in signatures.items() if _is_valid(manifest, roster, proposal, name, signature)}
    certificate = SurvivorCertificate(proposal, valid)
    verify_certificate(manifest, epoch, roster, certificate)
    return certificate


def check_signature(manifest: SumManifest, roster: Roster, proposal: SurvivorProposal, name: str, signature: bytes) -> None:
    """Raises SignatureError unless it is a signature on the set by one of its members."""
    if name not in proposal.roots:
        raise SignatureError(f"{name} is not in the set that it signed")
    verify(roster.key_of(name), signed_set(manifest, proposal), signature, name)


def verify_certificate(manifest: SumManifest, epoch: EpochManifest, roster: Roster, certificate: SurvivorCertificate) -> None:
    """Raises unless at least threshold members of the set, and nobody else, signed it."""
    _check_proposal(epoch, manifest, certificate.proposal)
    signers = [n for n, s in certificate.signatures.items() if _is_valid(manifest, roster, certificate.proposal, n, s)]
    if len(signers) < len(certificate.signatures):
        raise SignatureError("the certificate holds a signature that is not of a member of its set")
    if len(signers) < epoch.threshold:
        raise TooFewSurvivors(f"{len(signers)} institutions signed the set and {epoch.threshold} are needed")


def signed_set(manifest: SumManifest, proposal: SurvivorProposal) -> bytes:
    """What a member of the set signs: slot and chain head stand in the manifest, members and roots in the proposal."""
    return b"consortium survivors 1\0" + manifest.hash + proposal.hash


def _check_proposal(epoch: EpochManifest, manifest: SumManifest, proposal: SurvivorProposal) -> None:
    if proposal.manifest_hash != manifest.hash:
        raise ProtocolError("the proposed set is for another manifest")
    if not set(proposal.roots) <= set(epoch.members):
        raise ProtocolError("the proposed set names someone who is not a member of the epoch")
    if len(proposal.roots) < epoch.threshold:
        raise TooFewSurvivors(f"{len(proposal.roots)} institutions sent their input and {epoch.threshold} are needed")


def _is_valid(manifest: SumManifest, roster: Roster, proposal: SurvivorProposal, name: str, signature: bytes) -> bool:
    try:
        check_signature(manifest, roster, proposal, name, signature)
    except SignatureError:
        return False
    return True
