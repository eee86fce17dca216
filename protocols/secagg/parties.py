"""All parties of one epoch and one sum in one function: how the protocol works, and the oracle that tests compare with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.codec import Message
from protocols.epoch import (
    SUITE,
    EpochCertificate,
    EpochManifest,
    EpochState,
    KeysMessage,
    KeysState,
    SharesMessage,
    begin_epoch,
    certify_epoch,
    check_threshold,
    confirm_epoch,
    deal_shares,
    read_confirmation,
    setup_hash,
    threshold,
)
from protocols.errors import ProtocolError, ThresholdError, TooFewSurvivors
from protocols.identity import Identity
from protocols.lanes import LaneFormat
from protocols.merkle import leaf_hash
from protocols.roster import Roster, RosterEntry
from protocols.secagg.accumulator import Accumulator, remove_masks
from protocols.secagg.inputs import CheckedUpload, Upload, check_upload, mask_input
from protocols.secagg.manifest import SumManifest
from protocols.secagg.opening import open_seeds, unmask
from protocols.secagg.survivors import certify, propose_survivors, sign_survivors

Stage: TypeAlias = Literal["keys", "shares", "masked", "survivors", "unmask"]
STAGES: tuple[Stage, ...] = ("keys", "shares", "masked", "survivors", "unmask")


@dataclass(frozen=True, slots=True)
class SumResult:
    """The sum over the survivors, uint32, and the bytes that each institution sent."""

    total: NDArray[np.uint32]
    survivors: tuple[str, ...]
    bytes_up: dict[str, int]


def run_secagg(
    inputs: Mapping[str, NDArray[np.uint32]],
    threshold: int | None = None,
    colluding: int = 0,
    drop: Mapping[str, Stage] | None = None,
    randomness: Callable[[int], bytes] = os.urandom,
    lanes: int = 32,
    threads: int = 1,
) -> SumResult:
    """Sums one-dimensional uint32 vectors modulo 2^lanes, playing every institution and the coordinator.

    `drop` names the stage from which on an institution takes no part; one that drops at "survivors" or "unmask" still counts.
    With `lanes` of 24 or 20 bits, inputs must be below 2^lanes, and uploads are written in as many bits. So many `threads` play
    members that mask; as many uploads are in memory.

    Raises:
        ProtocolError: inputs that are not of one length and type, or above their lanes.
        ThresholdError: a threshold that does not satisfy 2t > n + c, t <= n and t - c >= 2.
        TooFewSurvivors: too few institutions were left; nothing is released.
    """
    parties = _Parties(inputs, dict(drop or {}), randomness, lanes)
    _checked_threshold(len(inputs), threshold, colluding)
    setup = parties.set_up(threshold, colluding)
    manifest = parties.manifest(setup, LaneFormat(len(next(iter(inputs.values()))), 0, lanes))
    # Every member masks for this manifest; inputs are added as they arrive.
    accumulator = Accumulator(manifest)
    for upload in parties.uploads(parties.present("masked", setup.members), setup, manifest, threads):
        accumulator.add(upload)
        del upload  # while the next one is made
    # One set is proposed and signed.
    proposal = propose_survivors(manifest, accumulator.roots)
    signatures = {}
    for name in parties.present("survivors", proposal.members):
        signatures[name] = sign_survivors(setup.states[name], manifest, proposal, proposal.roots[name], parties.identities[name])
        parties.count(name, len(signatures[name]))
    certificate = certify(manifest, setup.manifest, parties.roster, proposal, signatures)
    # Whoever sees the certificate opens what follows from the set, once.
    answers = {}
    for name in parties.present("unmask", proposal.members):
        answers[name] = unmask(setup.states[name], manifest, certificate, parties.roster, parties.identities[name])
        parties.send(name, answers[name])
    opened = open_seeds(manifest, setup.manifest, setup.certificate, certificate, answers)
    return SumResult(remove_masks(accumulator, opened), proposal.members, parties.bytes_up)


@dataclass(frozen=True, slots=True)
class RehearsedUpload:
    """What a member would send, and the identity that was made for it and signed it."""

    identity: Identity
    manifest: SumManifest
    upload: Upload


def rehearse_upload(
    name: str,
    vector: NDArray[np.uint32],
    lanes: LaneFormat,
    members: Sequence[str],
    colluding: int,
    randomness: Callable[[int], bytes],
) -> RehearsedUpload:
    """The upload of `name` in a sum over `members`, of whom all play an epoch's setup here, with keys that nobody keeps.

    Raises:
        TooFewSurvivors: so few members carry no sum.
    """
    parties = _Parties(dict.fromkeys(members, vector), {}, randomness)
    setup = parties.set_up(None, colluding)
    manifest = parties.manifest(setup, lanes)
    identity = parties.identities[name]
    return RehearsedUpload(identity, manifest, mask_input(setup.states[name], manifest, vector, identity))


@dataclass(frozen=True, slots=True)
class _Setup:
    manifest: EpochManifest
    states: Mapping[str, EpochState]
    certificate: EpochCertificate

    @property
    def members(self) -> tuple[str, ...]:
        return self.manifest.members


@dataclass(slots=True)
class _Parties:
    inputs: Mapping[str, NDArray[np.uint32]]
    drop: dict[str, Stage]
    randomness: Callable[[int], bytes]
    lanes: int = 32
    identities: dict[str, Identity] = field(default_factory=dict)
    bytes_up: dict[str, int] = field(default_factory=dict)
    coordinator: Identity = field(init=False)
    roster: Roster = field(init=False)

    def __post_init__(self) -> None:
        if len({vector.shape for vector in self.inputs.values()}) > 1 or any(
            v.dtype != np.uint32 or v.ndim != 1 for v in self.inputs.values()
        ):
            raise ProtocolError("inputs must be one-dimensional uint32 arrays of one length")
        if self.lanes < 32 and any((vector >> np.uint32(self.lanes)).any() for vector in self.inputs.values()):
            raise ProtocolError(f"inputs must be below 2^{self.lanes}; reduce them, or use wider lanes")
        for name, stage in self.drop.items():
            if name not in self.inputs or stage not in STAGES:
                raise ProtocolError(f"drop names {name} at {stage}: give an institution of the inputs and one of {', '.join(STAGES)}")
        self.coordinator = Identity.generate("coordinator", self.randomness)
        self.identities = {name: Identity.generate(name, self.randomness) for name in sorted(self.inputs)}
        self.roster = Roster(tuple(RosterEntry(name, identity.public_key) for name, identity in self.identities.items()))
        self.bytes_up = dict.fromkeys(self.identities, 0)

    def present(self, stage: Stage, names: tuple[str, ...]) -> list[str]:
        """Those of `names` that have not dropped out by `stage`."""
        return [name for name in names if STAGES.index(self.drop.get(name, "unmask")) > STAGES.index(stage) or name not in self.drop]

    def count(self, name: str, size: int) -> None:
        self.bytes_up[name] += size

    def send(self, name: str, message: Message) -> None:
        self.count(name, len(message.to_bytes()))

    def set_up(self, given: int | None, colluding: int) -> _Setup:
        """An epoch of all that finish its setup; whoever does not is left out and it starts again with new keys."""
        members = tuple(self.identities)
        for stage in ("keys", "shares"):
            remaining = tuple(self.present(stage, members))
            if remaining != members and stage == "shares":
                self._keys(self._epoch(members, given, colluding), members)  # in vain: someone is missing at the next stage
            members = remaining
        manifest = self._epoch(members, given, colluding)
        states, keys = self._keys(manifest, members)
        dealt = {name: deal_shares(states[name], keys, self.randomness, self.identities[name]) for name in members}
        shares: dict[str, SharesMessage] = {name: message for name, (_, message) in dealt.items()}
        states_after, confirmations, setup = {}, {}, setup_hash(manifest, keys, shares)
        for name, (state, _) in dealt.items():
            relayed = {dealer: message.relayed(manifest.number(name)) for dealer, message in shares.items()}
            states_after[name], confirmation = confirm_epoch(state, relayed, self.identities[name])
            self.send(name, shares[name])
            self.send(name, confirmation)
            data = confirmation.to_bytes()
            confirmations[name] = read_confirmation(manifest, self.roster, setup, shares[name], name, data)
        return _Setup(manifest, states_after, certify_epoch(manifest, keys, shares, confirmations))

    def manifest(self, setup: _Setup, lanes: LaneFormat) -> SumManifest:
        """The manifest of the epoch's only sum."""
        none, epoch_hash = bytes(32), setup.manifest.hash
        manifest = SumManifest("run_secagg", 0, "sum", 1, 0, none, epoch_hash, none, none, lanes, none, none, 0)
        manifest = manifest.signed_by(self.coordinator.sign)
        manifest.check(setup.manifest, self.coordinator.public_key)
        return manifest

    def uploads(self, names: list[str], setup: _Setup, manifest: SumManifest, threads: int) -> Iterator[CheckedUpload]:
        """Members' masked inputs, each as the coordinator has it once it is complete and checked."""
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(names), threads):
                group = names[start : start + threads]
                yield from pool.map(lambda name: self._upload(name, setup.states[name], manifest), group)

    def _upload(self, name: str, state: EpochState, manifest: SumManifest) -> CheckedUpload:
        sent = mask_input(state, manifest, self.inputs[name], self.identities[name])
        self.count(name, sum(map(len, sent.chunks)))
        self.send(name, sent.root)
        return check_upload(manifest, self.roster, sent.root, sent.chunks, [leaf_hash(chunk) for chunk in sent.chunks])

    def _epoch(self, members: tuple[str, ...], given: int | None, colluding: int) -> EpochManifest:
        try:
            t = _checked_threshold(len(members), given, colluding)
        except ThresholdError as error:
            raise TooFewSurvivors(f"{len(members)} institutions are left at the setup: {error}") from None
        terms = EpochManifest("run_secagg", 1, self.roster.hash_of(members), members, len(members), colluding, t, SUITE, 1, b"")
        return terms.signed_by(self.coordinator.sign)

    def _keys(self, manifest: EpochManifest, members: tuple[str, ...]) -> tuple[dict[str, KeysState], dict[str, KeysMessage]]:
        means = (self.roster, self.coordinator.public_key, self.randomness)
        begun = {name: begin_epoch(manifest, self.identities[name], *means) for name in members}
        for name, (_, message) in begun.items():
            self.send(name, message)
        return {name: state for name, (state, _) in begun.items()}, {name: message for name, (_, message) in begun.items()}


def _checked_threshold(n: int, given: int | None, colluding: int) -> int:
    t = threshold(n, colluding) if given is None else given
    check_threshold(n, colluding, t)
    return t
