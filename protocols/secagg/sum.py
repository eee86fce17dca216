"""One secure sum within an epoch: mask, one survivor set, one disjoint opening (PROTOCOL, section 3; Bonawitz et al. 2017).

Members' functions take the member's `EpochState`; the coordinator's take what it received. What a member may sign or open
only once is decided by its ledger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.codec import Message
from protocols.epoch import EpochCertificate, EpochManifest, EpochState, check_secret, check_share, open_recovery
from protocols.errors import DishonestMember, ProtocolError, SignatureError, TooFewSurvivors
from protocols.identity import Identity, verify
from protocols.keys import Purpose, derive_key
from protocols.masking import add_masks
from protocols.roster import Roster
from protocols.shamir import combine_shares

SELF_SEED, RECOVERY_SECRET = 0, 1


@dataclass(frozen=True)
class SumManifest(Message):
    """What is asked; its hash is in every mask, so that vectors for different manifests never cancel."""

    run: str
    round: int
    sum: str
    attempt: int
    slot: int
    plan_hash: bytes
    epoch_hash: bytes
    state_hash: bytes
    layout_hash: bytes
    size: int
    previous_transcript: bytes
    chain_head: bytes
    chain_length: int


@dataclass(frozen=True)
class MaskedInput:
    """A masked vector, uint32 [size], its root and its sender's signature on both manifest and root."""

    sender: str
    masked: NDArray[np.uint32]
    root: bytes
    signature: bytes


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


@dataclass(frozen=True)
class OpenedSeeds(Message):
    """What a certified set opened of one slot: its members' self seeds, and the pair seeds between them and those who are missing."""

    self_seeds: Mapping[str, bytes]
    pair_seeds: Mapping[str, Mapping[str, bytes]]  # of each missing member, by member of the set


@dataclass(frozen=True)
class UnmaskAnswer(Message):
    """Shares of the self seeds of those in the set, and of the recovery secrets of those outside: never both of one."""

    sender: str
    self_seeds: Mapping[str, bytes]
    recovery_secrets: Mapping[str, bytes]


def mask_input(epoch: EpochState, manifest: SumManifest, vector: NDArray[np.uint32], identity: Identity) -> MaskedInput:
    """y_u = x_u + PRG(b_u) + sum over v > u of PRG(p_uv) - sum over v < u of PRG(p_uv), modulo 2^32.

    Raises:
        ProtocolError: the manifest is for another epoch, slot or size.
    """
    _check_sum(epoch.manifest, manifest)
    _check_slot(epoch, manifest.slot)
    if vector.shape != (manifest.size,) or vector.dtype != np.uint32:
        raise ProtocolError(f"the vector has {vector.size} lanes and the manifest asks for {manifest.size}")
    masked = vector.copy()
    plus, minus = _pair_keys(epoch.sender, {name: seeds[manifest.slot] for name, seeds in epoch.pair_seeds.items()}, manifest)
    self_key = derive_key(epoch.self_seeds[manifest.slot], Purpose.SELF_MASK, manifest.hash)
    add_masks(masked, [self_key, *plus], minus)
    root = input_root(manifest, masked)
    return MaskedInput(epoch.sender, masked, root, identity.sign(_signed_root(manifest, root)))


def sign_survivors(epoch: EpochState, manifest: SumManifest, proposal: SurvivorProposal, root: bytes, identity: Identity) -> bytes:
    """A member's signature on a set that holds it with the root it sent.

    Raises:
        ProtocolError, TooFewSurvivors: the set is not one that may be opened.
    """
    _check_sum(epoch.manifest, manifest)
    _check_proposal(epoch.manifest, manifest, proposal)
    if proposal.roots.get(epoch.sender) != root:
        raise ProtocolError(f"{epoch.sender} is not in the proposed set with what it sent")
    return identity.sign(_signed_set(manifest, proposal))


def unmask(epoch: EpochState, manifest: SumManifest, certificate: SurvivorCertificate, roster: Roster, identity: Identity) -> UnmaskAnswer:
    """A member's shares for a certified set; whose secret is opened follows from the set alone.

    Raises:
        ProtocolError, TooFewSurvivors: the certificate does not hold.
    """
    _check_sum(epoch.manifest, manifest)
    _check_slot(epoch, manifest.slot)
    verify_certificate(manifest, epoch.manifest, roster, certificate)
    inside = certificate.proposal.members
    if identity.name not in inside:
        raise ProtocolError(f"{identity.name} is not in the certified set")
    outside = [name for name in epoch.manifest.members if name not in inside]
    return UnmaskAnswer(
        epoch.sender,
        {name: epoch.share(name, manifest.slot, SELF_SEED) for name in inside},
        {name: epoch.share(name, manifest.slot, RECOVERY_SECRET) for name in outside},
    )


class Accumulator:
    """The running sum of masked inputs: one vector, however many institutions send."""

    def __init__(self, manifest: SumManifest, roster: Roster) -> None:
        self.manifest = manifest
        self.total: NDArray[np.uint32] = np.zeros(manifest.size, np.uint32)
        self.roots: dict[str, bytes] = {}
        self._roster = roster

    def add(self, masked: MaskedInput) -> None:
        """Adds one input after checking it; a refused one changes nothing.

        Raises:
            ProtocolError, SignatureError: wrong size, repeated sender, or not what its sender signed.
        """
        if masked.masked.shape != self.total.shape or masked.masked.dtype != np.uint32:
            raise ProtocolError(f"{masked.sender} sent {masked.masked.size} lanes and the manifest asks for {self.manifest.size}")
        if masked.sender in self.roots:
            raise ProtocolError(f"{masked.sender} has already sent its input")
        verify(self._roster.key_of(masked.sender), _signed_root(self.manifest, masked.root), masked.signature, masked.sender)
        if input_root(self.manifest, masked.masked) != masked.root:
            raise ProtocolError(f"the input of {masked.sender} is not the one that it signed")
        self.total += masked.masked
        self.roots[masked.sender] = masked.root


def propose_survivors(accumulator: Accumulator) -> SurvivorProposal:
    """The set of everyone whose input is in the sum."""
    return SurvivorProposal(accumulator.manifest.hash, dict(sorted(accumulator.roots.items())))


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
    verify(roster.key_of(name), _signed_set(manifest, proposal), signature, name)


def verify_certificate(manifest: SumManifest, epoch: EpochManifest, roster: Roster, certificate: SurvivorCertificate) -> None:
    """Raises unless at least threshold members of the set, and nobody else, signed it."""
    _check_proposal(epoch, manifest, certificate.proposal)
    signers = [n for n, s in certificate.signatures.items() if _is_valid(manifest, roster, certificate.proposal, n, s)]
    if len(signers) < len(certificate.signatures):
        raise SignatureError("the certificate holds a signature that is not of a member of its set")
    if len(signers) < epoch.threshold:
        raise TooFewSurvivors(f"{len(signers)} institutions signed the set and {epoch.threshold} are needed")


def check_answer(
    epoch: EpochManifest, setup: EpochCertificate, slot: int, proposal: SurvivorProposal, name: str, answer: UnmaskAnswer
) -> None:
    """Raises DishonestMember unless a member opens exactly what follows from the set, with the shares that were committed to."""
    inside = set(proposal.members)
    if answer.sender != name or answer.self_seeds.keys() != inside or answer.recovery_secrets.keys() != set(epoch.members) - inside:
        raise DishonestMember(name, "opened other secrets than follow from the set")
    for secret, shares in ((SELF_SEED, answer.self_seeds), (RECOVERY_SECRET, answer.recovery_secrets)):
        for dealer, share in shares.items():
            if not check_share(setup.shares[dealer], epoch, slot, name, secret, share):
                raise DishonestMember(name, f"sent a wrong share for {dealer}")


def unmask_sum(
    accumulator: Accumulator,
    manifest: SumManifest,
    epoch: EpochManifest,
    setup: EpochCertificate,
    certificate: SurvivorCertificate,
    answers: Mapping[str, UnmaskAnswer],
) -> NDArray[np.uint32]:
    """The plain sum over the set, uint32 [size]: `open_seeds` and `remove_masks` in one."""
    return remove_masks(accumulator, open_seeds(manifest, epoch, setup, certificate, answers))


def open_seeds(
    manifest: SumManifest,
    epoch: EpochManifest,
    setup: EpochCertificate,
    certificate: SurvivorCertificate,
    answers: Mapping[str, UnmaskAnswer],
) -> OpenedSeeds:
    """The seeds of the masks that did not cancel.

    Raises:
        TooFewSurvivors: fewer than threshold correct answers. DishonestMember: a dealer's secret is not what it committed to.
    """
    inside, slot = certificate.proposal.members, manifest.slot
    given = {name: answer.self_seeds for name, answer in answers.items()}
    self_seeds = {name: _open_secret(epoch, setup, slot, name, SELF_SEED, given) for name in inside}
    given, pair_seeds = {name: answer.recovery_secrets for name, answer in answers.items()}, {}
    for name in (member for member in epoch.members if member not in inside):
        recovery = _open_secret(epoch, setup, slot, name, RECOVERY_SECRET, given)
        seeds = open_recovery(epoch, setup, name, slot, recovery)
        pair_seeds[name] = {other: seeds[other] for other in inside}
    return OpenedSeeds(self_seeds, pair_seeds)


def remove_masks(accumulator: Accumulator, opened: OpenedSeeds) -> NDArray[np.uint32]:
    """The plain sum, uint32 [size], from masked inputs and the seeds that were opened for their set."""
    manifest, plus = accumulator.manifest, []
    minus = [derive_key(seed, Purpose.SELF_MASK, manifest.hash) for seed in opened.self_seeds.values()]
    for name, seeds in opened.pair_seeds.items():
        # The member that is missing would have cancelled these, so its own signs are what is to be added.
        added, subtracted = _pair_keys(name, seeds, manifest)
        plus += added
        minus += subtracted
    total = accumulator.total.copy()
    add_masks(total, plus, minus)
    return total


def input_root(manifest: SumManifest, masked: NDArray[np.uint32]) -> bytes:
    """Hash of an upload, bound to its manifest."""
    digest = hashlib.sha256(b"consortium input 1\0" + manifest.hash)
    digest.update(np.ascontiguousarray(masked, "<u4").data.cast("B") if masked.size else b"")
    return digest.digest()


def _open_secret(
    epoch: EpochManifest, setup: EpochCertificate, slot: int, dealer: str, secret: int, answers: Mapping[str, Mapping[str, bytes]]
) -> bytes:
    message = setup.shares[dealer]
    given = {name: shares[dealer] for name, shares in answers.items() if dealer in shares}
    good = {epoch.number(n): share for n, share in given.items() if check_share(message, epoch, slot, n, secret, share)}
    if len(good) < epoch.threshold:
        wrong = ", ".join(n for n in sorted(given) if epoch.number(n) not in good)
        blame = f"; {wrong} sent a wrong share" if wrong else ""
        raise TooFewSurvivors(f"{len(good)} correct shares for {dealer} came and {epoch.threshold} are needed{blame}")
    try:
        value = combine_shares(dict(sorted(good.items())[: epoch.threshold]))
    except ProtocolError:  # the shares are those that were committed to, so it is their dealer who is at fault
        value = b""
    if not check_secret(message, slot, secret, value):
        raise DishonestMember(dealer, "dealt shares of another secret than it committed to; leave it out of the next epoch")
    return value


def _pair_keys(member: str, seeds: Mapping[str, bytes], manifest: SumManifest) -> tuple[list[bytes], list[bytes]]:
    """Mask keys that a member adds (towards names after its own) and subtracts."""
    keys = {name: derive_key(seed, Purpose.PAIR_MASK, manifest.hash) for name, seed in seeds.items()}
    return [key for name, key in keys.items() if name > member], [key for name, key in keys.items() if name < member]


def _check_sum(epoch: EpochManifest, manifest: SumManifest) -> None:
    if manifest.epoch_hash != epoch.hash:
        raise ProtocolError("the manifest belongs to another epoch")
    if manifest.slot >= epoch.slots:
        raise ProtocolError(f"slot {manifest.slot} does not exist in an epoch of {epoch.slots}; begin a new epoch")


def _check_slot(epoch: EpochState, slot: int) -> None:
    if not epoch.self_seeds[slot]:
        raise ProtocolError(f"the secrets of slot {slot} were erased with an earlier sum; take a later slot")


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


def _signed_root(manifest: SumManifest, root: bytes) -> bytes:
    return b"consortium input signature 1\0" + manifest.hash + root


def _signed_set(manifest: SumManifest, proposal: SurvivorProposal) -> bytes:
    return b"consortium survivors 1\0" + manifest.hash + proposal.hash
