"""A node's part in one secure sum: the masked vector, the one set that it signs for, and the one opening."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from client.accepting import check_fields
from client.alone import measured_alone
from client.contribution import contribute
from client.epochs import check_accepted, check_cohort
from client.manifests import check_manifest, check_members, check_subject
from client.node import Arrays, Node, Request, Result, Session, next_sum, open_session
from client.personal_training import measured_state
from client.promises import check_promises_known, countersign_head, own_root, promise_root, promise_set, promise_slot
from client.trainings import train_once
from protocols.encoding import LaneLayout, encode, rescaled
from protocols.epoch import EpochCertificate, EpochManifest, EpochState, verify_epoch
from protocols.errors import Refusal
from protocols.merkle import leaf_hash
from protocols.participation import members_of
from protocols.policy import check_hours, check_layout, check_plan
from protocols.privacy.distributed import check_shares
from protocols.schedule import PlannedSum
from protocols.scratch import Scratch
from protocols.secagg import (
    SumManifest,
    SurvivorCertificate,
    SurvivorProposal,
    chunks_of,
    mask_chunks,
    parts_of,
    sign_root,
    sign_survivors,
    unmask,
)
from protocols.sums.private_update import is_distributed


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request of one sum, after everything that its stages have in common was checked."""

    session: Session
    planned: PlannedSum
    manifest: SumManifest
    lanes: LaneLayout
    epoch: EpochState


def send_masked_input(node: Node, request: Request) -> Result:
    """Trains or measures, unless that was done before, masks the stored vector for this manifest alone, and signs its root.

    The first part goes out with the root. Nothing masked is stored: every part follows from vector and manifest, which are.
    """
    asked = _asked(node, request)
    check_accepted(node, asked.epoch.manifest, b"")  # who was taken off the roster since ends the epoch; what was sent before is finished
    if is_distributed(asked.session.plan):
        _check_noise(node, asked)
    _check_allowed(node, request, asked)
    promise_slot(node, request, asked.manifest)
    leaves, first = [], bytearray()
    for number, chunk in enumerate(mask_chunks(asked.epoch, asked.manifest, _vector(node, request, asked))):
        leaves.append(leaf_hash(chunk))
        if number in chunks_of(asked.lanes.format, 0):
            first += chunk
    root = sign_root(asked.manifest, leaves, node.signer(asked.epoch.manifest))
    promise_root(node, asked.manifest, root.root)
    return Result({"root": root.to_bytes()}, {"chunks": np.frombuffer(bytes(first), np.uint8)})


def send_part(node: Node, request: Request) -> Result:
    """A part of the input whose root was signed for this manifest, the same bytes whenever it is asked."""
    part = int.from_bytes(request.part("part"), "little")
    return Result({}, masked_part(node, request, part))


def masked_part(node: Node, request: Request, part: int) -> Arrays:
    """The chunks of one message of an upload, uint8, as they went out or will.

    Raises:
        Refusal: no such part was signed, or the sum is over.
    """
    asked = _asked(node, request)
    vector = kept_vector(node, request.run, asked.session, asked.planned, asked.epoch.manifest.n)
    if vector is None or own_root(node, asked.manifest) is None or part >= parts_of(asked.manifest.lanes):
        raise Refusal(f"{node.name} has no part {part} of an input for this manifest")
    written = b"".join(mask_chunks(asked.epoch, asked.manifest, vector, part))
    return {"chunks": np.frombuffer(written, np.uint8)}


def sign_set(node: Node, request: Request) -> Result:
    """Signs a proposed set: once for this slot, and once for this sum, and for these inputs and kind of sum in whatever attempt or run."""
    asked, proposal = _asked(node, request), SurvivorProposal.from_bytes(request.part("proposal"))
    root = own_root(node, asked.manifest)
    if root is None:
        raise Refusal(f"{node.name} sent nothing for this manifest")
    signature = sign_survivors(asked.epoch, asked.manifest, proposal, root, node.signer(asked.epoch.manifest))
    promise_set(node, request, asked.manifest, proposal, asked.session.state, asked.epoch.manifest)
    countersign_head(node, asked.manifest)
    return Result({"signature": signature})


def open_set(node: Node, request: Request) -> Result:
    """Answers a survivor certificate once; what is opened follows from the certificate alone."""
    asked, certificate = _asked(node, request), SurvivorCertificate.from_bytes(request.part("certificate"))
    # A certificate that does not hold raises here, before anything is promised for the true one's slot.
    answer = unmask(asked.epoch, asked.manifest, certificate, node.parties.roster_of(asked.epoch.manifest), node.identity)
    if certificate.proposal.roots[node.name] != own_root(node, asked.manifest):
        raise Refusal(f"{node.name} is not in the certified set with what it sent")
    promise_set(node, request, asked.manifest, certificate.proposal, asked.session.state, asked.epoch.manifest)
    return Result({"answer": answer.to_bytes()})


def _asked(node: Node, request: Request) -> _Asked:
    session, manifest = open_session(node, request.run), SumManifest.from_bytes(request.part("manifest"))
    check_subject(request, manifest)
    check_promises_known(node, request.run)
    if manifest.attempt != request.attempt:
        raise Refusal("the manifest is about another attempt than its envelope")
    planned = next_sum(session, request)
    lanes = session.terms.lanes(session.state, planned)
    epoch = _epoch(node, request, manifest)
    manifest.check(epoch.manifest, node.coordinator_key)
    check_manifest(session, manifest, lanes)
    check_members(node, session, manifest, epoch.manifest)
    return _Asked(session, planned, manifest, lanes, epoch)


def _epoch(node: Node, request: Request, manifest: SumManifest) -> EpochState:
    certificate = EpochCertificate.from_bytes(request.part("epoch"))
    stored = node.ledger.epoch(request.run, certificate.epoch)
    if stored is None or stored.stage != "confirmed":
        raise Refusal(f"{node.name} is not a member of epoch {certificate.epoch}; begin a new epoch")
    epoch_manifest, state = EpochManifest.from_bytes(stored.manifest), EpochState.from_bytes(stored.state)
    if epoch_manifest.hash != manifest.epoch_hash:
        raise Refusal("the manifest belongs to another epoch than its certificate")
    if certificate.setup_hash != state.setup_hash:
        raise Refusal(f"the certificate is of another setup of epoch {certificate.epoch} than {node.name} signed; begin a new epoch")
    verify_epoch(certificate, epoch_manifest, node.parties.roster_of(epoch_manifest), node.coordinator_key)
    return state


def _check_noise(node: Node, asked: _Asked) -> None:
    """Raises PolicyError if what may be opened in the epoch has less noise than the plan counts on."""
    names, epoch = [entry.name for entry in node.roster.entries], asked.epoch.manifest
    able = members_of(asked.session.plan, names, asked.planned.round, asked.planned.kind)
    check_shares(asked.session.plan, epoch.threshold, epoch.colluding, len(able))


def _check_allowed(node: Node, request: Request, asked: _Asked) -> None:
    """Raises PolicyError if the cohort, or what is still to be computed, is not allowed now; what was computed before goes out.

    A policy may have become stricter since the run was accepted and the epoch begun, and no coordinator needs to greet again.
    """
    session, planned = asked.session, asked.planned
    check_cohort(node, asked.epoch.manifest)
    if node.ledger.vectors.kept(request.run, planned.round, planned.kind, session.state_hash) is not None:
        return
    check_plan(node.policy, session.plan)
    check_fields(node.policy, session.plan)
    check_hours(node.policy, node.local_time())
    if node.policy.limits_layout:
        check_layout(node.policy, session.terms, session.state)


def _vector(node: Node, request: Request, asked: _Asked) -> NDArray[np.uint32]:
    session, planned, members = asked.session, asked.planned, asked.epoch.manifest.n
    stored = kept_vector(node, request.run, asked.session, asked.planned, asked.epoch.manifest.n)
    if stored is None:
        vector = compute_vector(node, request.run, session, planned, members).astype("<u4", copy=False)
        node.ledger.vectors.keep(request.run, planned.round, planned.kind, session.state_hash, vector.data.cast("B"), members)
        node.checkpoints.erase(request.run)
        return vector
    return stored


def kept_vector(node: Node, run: str, session: Session, planned: PlannedSum, members: int) -> NDArray[np.uint32] | None:
    """The stored vector of a sum, as an epoch of so many `members` adds it up: that of an earlier attempt may have had more, or fewer."""
    stored = node.ledger.vectors.kept(run, planned.round, planned.kind, session.state_hash)
    if stored is None:
        return None
    made_for = node.ledger.vectors.members(run, planned.round, planned.kind) or members
    return rescaled(stored.view("<u4"), session.terms.lanes(session.state, planned), made_for, members, Scratch(node.ledger.home))


def compute_vector(node: Node, run: str, session: Session, planned: PlannedSum, members: int) -> NDArray[np.uint32]:
    """The work of one sum as this institution's lanes, uint32 [size], with room for a sum of so many `members`; raises as `contribute`."""
    state, train = measured_state(node, run, session, planned), partial(train_once, node, run, session, planned)
    values = contribute(session.work, session.terms, state, planned, train, partial(measured_alone, node, run, session))
    lanes = session.terms.lanes(session.state, planned)
    return encode(values, lanes, members, _rounding(node, planned), Scratch(node.ledger.home))


def _rounding(node: Node, planned: PlannedSum) -> np.random.Generator:
    """Stochastic rounding: from the node's own randomness, or in simulation from a seed, so that a repeated run has the same bits."""
    seed = node.rounding_seed if node.rounding_seed is not None else node.randomness(32)
    material = hashlib.sha256(b"\0".join((b"consortium rounding", seed, node.name.encode(), f"{planned.round}/{planned.kind}".encode())))
    return np.random.Generator(np.random.Philox(key=int.from_bytes(material.digest()[:16], "little")))
