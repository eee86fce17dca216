"""Four institutions in a certified epoch, a fifth on the roster alone, and one sum of theirs up to the opening."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.epoch import (
    SUITE,
    Confirmation,
    EpochCertificate,
    EpochManifest,
    EpochState,
    KeysMessage,
    KeysState,
    RelayedShares,
    SharesMessage,
    begin_epoch,
    certify_epoch,
    confirm_epoch,
    deal_shares,
    read_confirmation,
    setup_hash,
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

    def __init__(self, colluding: int = 1, slots: int = 2, suite: str = SUITE) -> None:
        self.randomness = random.Random(7).randbytes
        self.identities = {name: Identity.generate(name, self.randomness) for name in NAMES[:5]}
        self.coordinator = Identity.generate("coordinator", random.Random(8).randbytes)
        self.roster = Roster(tuple(RosterEntry(name, identity.public_key) for name, identity in self.identities.items()))
        terms = EpochManifest("run", 1, self.roster.hash_of(MEMBERS), MEMBERS, 4, colluding, threshold(4, colluding), suite, slots, b"")
        self.epoch = terms.signed_by(self.coordinator.sign)
        self.begun = {name: self.begin(name) for name in MEMBERS}
        self.keys = {name: message for name, (_, message) in self.begun.items()}
        self.dealt = {n: deal_shares(s, self.keys, self.randomness, self.identities[n]) for n, (s, _) in self.begun.items()}
        self.shares = {name: message for name, (_, message) in self.dealt.items()}

    def begin(self, name: str, **changes: Any) -> tuple[KeysState, KeysMessage]:
        """An institution's first stage, of terms that the coordinator may have changed and signed anew."""
        epoch = replace(self.epoch, **changes).signed_by(self.coordinator.sign)
        return begin_epoch(epoch, self.identities[name], self.roster, self.coordinator.public_key, self.randomness)

    def relayed(self, name: str) -> dict[str, RelayedShares]:
        """What an honest coordinator shows a member of all shares."""
        return {dealer: message.relayed(self.epoch.number(name)) for dealer, message in self.shares.items()}

    def confirmed(self) -> dict[str, tuple[EpochState, Confirmation]]:
        return {n: confirm_epoch(s, self.relayed(n), self.identities[n]) for n, (s, _) in self.dealt.items()}

    def read(self, name: str, confirmation: Confirmation) -> Confirmation:
        """A confirmation as the coordinator reads it."""
        setup = setup_hash(self.epoch, self.keys, self.shares)
        return read_confirmation(self.epoch, self.roster, setup, self.shares[name], name, confirmation.to_bytes())

    def certify(self, confirmations: Mapping[str, Confirmation]) -> EpochCertificate:
        read = {name: self.read(name, confirmation) for name, confirmation in confirmations.items()}
        return certify_epoch(self.epoch, self.keys, self.shares, read)

    def certified(self) -> tuple[dict[str, EpochState], EpochCertificate]:
        confirmed = self.confirmed()
        certificate = self.certify({name: confirmation for name, (_, confirmation) in confirmed.items()})
        return {name: state for name, (state, _) in confirmed.items()}, certificate

    def manifest(self, slot: int = 0, state: bytes = bytes(32), size: int = 3) -> SumManifest:
        none = bytes(32)
        lanes = LaneFormat(size, size, 32)
        unsigned = SumManifest("run", 1, "update", 1, slot, none, self.epoch.hash, state, none, lanes, none, none, 0)
        return unsigned.signed_by(self.coordinator.sign)

    def signed(self, message: SharesMessage) -> SharesMessage:
        """The message with its sender's own hashes of the parts and signature on the header: what a dishonest member sends."""
        header = replace(message.header, part_hashes=b"".join(part.hash for part in message.parts))
        return replace(message, header=header.signed_by(self.identities[header.sender].sign))

    def dealt_instead(self, message: SharesMessage) -> None:
        """The sender deals this message, signed anew, and goes on with it."""
        name, signed = message.header.sender, self.signed(message)
        self.shares[name] = signed
        self.dealt[name] = (replace(self.dealt[name][0], own_hash=signed.header.hash), signed)


def with_part(message: SharesMessage, number: int, **changes: Any) -> SharesMessage:
    """The message with another part for member number `number` (from 1)."""
    parts = list(message.parts)
    parts[number - 1] = replace(parts[number - 1], **changes)
    return replace(message, parts=tuple(parts))


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
