"""Four institutions in a certified epoch, a fifth on the roster alone, and one sum of theirs up to the opening."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from protocols.epoch import (
    SUITE,
    EpochCertificate,
    EpochManifest,
    EpochState,
    SharesMessage,
    begin_epoch,
    certify_epoch,
    confirm_epoch,
    deal_shares,
    threshold,
)
from protocols.identity import Identity
from protocols.lanes import LaneFormat
from protocols.merkle import leaf_hash
from protocols.roster import Roster, RosterEntry
from protocols.secagg import (
    Accumulator,
    CheckedUpload,
    SumManifest,
    SurvivorCertificate,
    SurvivorProposal,
    UnmaskAnswer,
    UploadRoot,
    certify,
    check_upload,
    mask_chunks,
    open_seeds,
    propose_survivors,
    remove_masks,
    sign_root,
    sign_survivors,
    unmask,
)

NAMES = ("ada", "bio", "cor", "dom", "ems", "fir")
MEMBERS, OUTSIDER = NAMES[:4], "ems"


def vectors(n: int, size: int = 3) -> dict[str, NDArray[np.uint32]]:
    rng = np.random.default_rng(n)
    return {name: rng.integers(0, 2**32, size, dtype=np.uint32) for name in NAMES[:n]}


def plain_sum(inputs: Mapping[str, NDArray[np.uint32]]) -> NDArray[np.uint32]:
    return np.asarray(np.sum(list(inputs.values()), 0, dtype=np.uint32))


@dataclass(frozen=True)
class MaskedInput:
    """An upload as its lanes, with its root and signature."""

    sender: str
    masked: NDArray[np.uint32]
    root: bytes
    signature: bytes

    def checked(self, manifest: SumManifest, roster: Roster) -> CheckedUpload:
        chunks = list(manifest.lanes.written(self.masked))
        root = UploadRoot(self.sender, self.root, self.signature)
        return check_upload(manifest, roster, root, chunks, [leaf_hash(chunk) for chunk in chunks])


def mask_input(state: EpochState, manifest: SumManifest, vector: NDArray[np.uint32], identity: Identity) -> MaskedInput:
    chunks = list(mask_chunks(state, manifest, vector))
    root = sign_root(manifest, [leaf_hash(chunk) for chunk in chunks], identity)
    lanes = np.concatenate([manifest.lanes.read(chunk, number) for number, chunk in enumerate(chunks)])
    return MaskedInput(root.sender, lanes, root.root, root.signature)


class Cohort:
    """The epoch of two slots with its setup messages; a threshold of three with one colluding."""

    def __init__(self, colluding: int = 1, slots: int = 2) -> None:
        self.randomness = random.Random(7).randbytes
        self.identities = {name: Identity.generate(name, self.randomness) for name in NAMES[:5]}
        self.coordinator = Identity.generate("coordinator", random.Random(8).randbytes)
        self.roster = Roster(tuple(RosterEntry(name, identity.public_key) for name, identity in self.identities.items()))
        self.epoch = EpochManifest("run", 1, self.roster.roster_hash, MEMBERS, 4, colluding, threshold(4, colluding), SUITE, slots)
        self.begun = {n: begin_epoch(self.epoch, self.identities[n], self.roster, self.randomness) for n in MEMBERS}
        self.keys = {name: message for name, (_, message) in self.begun.items()}
        self.dealt = {n: deal_shares(s, self.keys, self.randomness, self.identities[n]) for n, (s, _) in self.begun.items()}
        self.shares = {name: message for name, (_, message) in self.dealt.items()}

    def confirmed(self) -> dict[str, tuple[EpochState, bytes]]:
        return {n: confirm_epoch(s, self.shares, self.identities[n]) for n, (s, _) in self.dealt.items()}

    def certified(self) -> tuple[dict[str, EpochState], EpochCertificate]:
        confirmed = self.confirmed()
        confirmations = {name: data for name, (_, data) in confirmed.items()}
        certificate = certify_epoch(self.epoch, self.roster, self.keys, self.shares, confirmations)
        return {name: state for name, (state, _) in confirmed.items()}, certificate

    def manifest(self, slot: int = 0, state: bytes = bytes(32), size: int = 3) -> SumManifest:
        none = bytes(32)
        lanes = LaneFormat(size, size, 32)
        unsigned = SumManifest("run", 1, "update", 1, slot, none, self.epoch.hash, state, none, lanes, none, none, 0)
        return unsigned.signed_by(self.coordinator)

    def signed(self, message: SharesMessage) -> SharesMessage:
        """The message with its sender's own signature on what it now says: what a dishonest member sends."""
        return replace(message, signature=self.identities[message.sender].sign(message.signed()))


@dataclass(frozen=True)
class Sum:
    """One sum over `uploads`, with what its members sign and answer."""

    cohort: Cohort
    states: Mapping[str, EpochState]
    setup: EpochCertificate
    manifest: SumManifest
    uploads: Mapping[str, MaskedInput]

    @property
    def accumulator(self) -> Accumulator:
        accumulator = Accumulator(self.manifest)
        for upload in self.uploads.values():
            accumulator.add(upload.checked(self.manifest, self.cohort.roster))
        return accumulator

    @property
    def proposal(self) -> SurvivorProposal:
        return propose_survivors(self.manifest, self.accumulator.roots)

    def sign(self, name: str, proposal: SurvivorProposal) -> bytes:
        return sign_survivors(self.states[name], self.manifest, proposal, self.uploads[name].root, self.cohort.identities[name])

    def signatures(self) -> dict[str, bytes]:
        return {name: self.sign(name, self.proposal) for name in self.uploads}

    def certificate(self) -> SurvivorCertificate:
        return certify(self.manifest, self.cohort.epoch, self.cohort.roster, self.proposal, self.signatures())

    def unmask(self, name: str, certificate: SurvivorCertificate) -> UnmaskAnswer:
        return unmask(self.states[name], self.manifest, certificate, self.cohort.roster, self.cohort.identities[name])

    def answers(self) -> dict[str, UnmaskAnswer]:
        certificate = self.certificate()
        return {name: self.unmask(name, certificate) for name in self.uploads}

    def total(self, answers: Mapping[str, UnmaskAnswer]) -> NDArray[np.uint32]:
        opened = open_seeds(self.manifest, self.cohort.epoch, self.setup, self.certificate(), answers)
        return remove_masks(self.accumulator, opened)


def collect(names: tuple[str, ...] = MEMBERS[:3], slot: int = 0, size: int = 3, cohort: Cohort | None = None) -> Sum:
    """A sum with the uploads of `names`; the other members dropped out after the setup."""
    cohort = cohort or Cohort()
    states, setup = cohort.certified()
    manifest, inputs = cohort.manifest(slot, size=size), vectors(4, size)
    uploads = {name: mask_input(states[name], manifest, inputs[name], cohort.identities[name]) for name in names}
    return Sum(cohort, states, setup, manifest, uploads)
