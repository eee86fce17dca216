"""All parties of one epoch and one sum in one function: how the protocol works, and the oracle that tests compare with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
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
from protocols.roster import Roster, RosterEntry
from protocols.secagg.sum import (
    Accumulator,
    SumManifest,
    certify,
    mask_input,
    propose_survivors,
    sign_survivors,
    unmask,
    unmask_sum,
)

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
) -> SumResult:
    """Sums one-dimensional uint32 vectors modulo 2^32, playing every institution and the coordinator.

    `drop` names the stage from which on an institution takes no part; one that drops at "survivors" or "unmask" still counts.

    Raises:
        ThresholdError: a threshold that does not satisfy 2t > n + c, t <= n and t - c >= 2.
        TooFewSurvivors: too few institutions were left; nothing is released.
    """
    parties = _Parties(inputs, dict(drop or {}), randomness)
    _checked_threshold(len(inputs), threshold, colluding)
    setup = parties.set_up(threshold, colluding)
    manifest = parties.manifest(setup)
    # Every member masks for this manifest; inputs are added as they arrive.
    accumulator = Accumulator(manifest, parties.roster)
    for name in parties.present("masked", setup.members):
        masked = mask_input(setup.states[name], manifest, inputs[name], parties.identities[name])
        parties.count(name, masked.masked.nbytes + len(masked.root) + len(masked.signature))
        accumulator.add(masked)
    # One set is proposed and signed.
    proposal = propose_survivors(accumulator)
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
    total = unmask_sum(accumulator, manifest, setup.manifest, setup.certificate, certificate, answers)
    return SumResult(total, proposal.members, parties.bytes_up)


@dataclass(frozen=True, slots=True)
class _Setup:
    manifest: EpochManifest
    states: Mapping[str, EpochState]
    certificate: EpochCertificate

    @property
    def members(self) -> tuple[str, ...]:
        return self.manifest.members


@dataclass
class _Parties:
    inputs: Mapping[str, NDArray[np.uint32]]
    drop: dict[str, Stage]
    randomness: Callable[[int], bytes]
    coordinator: Identity = field(init=False)
    identities: dict[str, Identity] = field(default_factory=dict)
    bytes_up: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({vector.shape for vector in self.inputs.values()}) > 1 or any(
            v.dtype != np.uint32 or v.ndim != 1 for v in self.inputs.values()
        ):
            raise ProtocolError("inputs must be one-dimensional uint32 arrays of one length")
        for name, stage in self.drop.items():
            if name not in self.inputs or stage not in STAGES:
                raise ProtocolError(f"drop names {name} at {stage}: give an institution of the inputs and one of {', '.join(STAGES)}")
        self.coordinator = Identity.generate("coordinator", self.randomness)
        self.identities = {name: Identity.generate(name, self.randomness) for name in sorted(self.inputs)}
        self.bytes_up = dict.fromkeys(self.identities, 0)

    @cached_property
    def roster(self) -> Roster:
        return Roster(tuple(RosterEntry(name, identity.public_key) for name, identity in self.identities.items()))

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

    def manifest(self, setup: _Setup) -> SumManifest:
        """The manifest of the epoch's only sum."""
        size = len(next(iter(self.inputs.values())))
        none = bytes(32)
        return SumManifest("run_secagg", 0, "sum", 1, 0, none, setup.manifest.hash, none, none, size, none, none, 0)

    def _epoch(self, members: tuple[str, ...], given: int | None, colluding: int) -> EpochManifest:
        try:
            t = _checked_threshold(len(members), given, colluding)
        except ThresholdError as error:
            raise TooFewSurvivors(f"{len(members)} institutions are left at the setup: {error}") from None
        terms = EpochManifest("run_secagg", 1, self.roster.roster_hash, members, len(members), colluding, t, SUITE, 1, b"")
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
