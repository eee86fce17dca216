"""A node's part in one secure sum: the masked vector, the one set that it signs for, and the one opening."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from client.contribution import contribute
from client.node import Node, Request, Result, Session, find_sum, open_session
from protocols.encoding import LaneLayout, encode
from protocols.epoch import EpochCertificate, EpochManifest, EpochState, verify_epoch
from protocols.errors import Refusal
from protocols.schedule import PlannedSum
from protocols.secagg import SumManifest, SurvivorCertificate, SurvivorProposal, mask_input, sign_survivors, unmask


def send_masked_input(node: Node, request: Request) -> Result:
    """Trains or measures, unless that was done before, and masks the stored vector for this manifest alone."""
    session = open_session(node, request.run)
    planned, manifest = find_sum(session, request), checked_manifest(request)
    epoch = _epoch(node, request, manifest)
    lanes = session.terms.lanes(session.state, planned)
    _check_manifest(node, session, planned, manifest, lanes)
    claim = f"slot/{request.run}/{manifest.epoch_hash.hex()}/{manifest.slot}"
    node.ledger.claim(claim, manifest.hash, f"slot {manifest.slot} of this epoch was used by another manifest; take a new slot")
    vector = _vector(node, request, session, planned, lanes)
    masked = mask_input(epoch, manifest, vector, node.identity)
    node.ledger.claim(_own_root(manifest), masked.root, "this manifest was already answered with another vector")
    return Result({"root": masked.root, "signature": masked.signature}, {"masked": masked.masked})


def sign_set(node: Node, request: Request) -> Result:
    """Signs a proposed set: once for this slot, and once for this state and kind of sum in whatever attempt or run."""
    manifest, proposal = checked_manifest(request), SurvivorProposal.from_bytes(request.part("proposal"))
    epoch = _epoch(node, request, manifest)
    root = node.ledger.claimed(_own_root(manifest))
    if root is None:
        raise Refusal(f"{node.name} sent nothing for this manifest")
    signature = sign_survivors(epoch, manifest, proposal, root, node.identity)
    _claim_set(node, request, manifest, proposal)
    return Result({"signature": signature})


def open_set(node: Node, request: Request) -> Result:
    """Answers a survivor certificate once; what is opened follows from the certificate alone."""
    manifest, certificate = checked_manifest(request), SurvivorCertificate.from_bytes(request.part("certificate"))
    epoch = _epoch(node, request, manifest)
    # A certificate that does not hold raises here, before anything is claimed for the true one's slot.
    answer = unmask(epoch, manifest, certificate, node.roster, node.identity)
    _claim_set(node, request, manifest, certificate.proposal)
    sentence = f"{node.name} has already opened another set for this slot"
    node.ledger.claim(f"opened/{manifest.hash.hex()}", hashlib.sha256(certificate.proposal.to_bytes()).digest(), sentence)
    return Result({"answer": answer.to_bytes()})


def checked_manifest(request: Request) -> SumManifest:
    """The request's manifest, signed by the coordinator and about the sum that the envelope names."""
    manifest = SumManifest.from_bytes(request.part("manifest"))
    named = (manifest.run, manifest.round, manifest.sum, manifest.attempt)
    if named != (request.run, request.round, request.about, request.attempt):
        raise Refusal("the manifest is about another sum than its envelope")
    return manifest


def _epoch(node: Node, request: Request, manifest: SumManifest) -> EpochState:
    certificate = EpochCertificate.from_bytes(request.part("epoch"))
    stored = node.ledger.epoch(request.run, certificate.epoch)
    if stored is None or stored.stage != "confirmed":
        raise Refusal(f"{node.name} is not a member of epoch {certificate.epoch}; begin a new epoch")
    epoch_manifest = EpochManifest.from_bytes(stored.manifest)
    if epoch_manifest.hash != manifest.epoch_hash:
        raise Refusal("the manifest belongs to another epoch than its certificate")
    verify_epoch(certificate, epoch_manifest, node.roster)
    return EpochState.from_bytes(stored.state)


def _check_manifest(node: Node, session: Session, planned: PlannedSum, manifest: SumManifest, lanes: LaneLayout) -> None:
    if manifest.plan_hash.hex() != session.plan.sha256:
        raise Refusal("the manifest is for another plan than the one that was accepted")
    if manifest.state_hash != session.state_hash:
        raise Refusal(f"{node.name} computes another state hash than the manifest's; send it the current state")
    if session.state.round != planned.round - (planned.kind == "update"):
        raise Refusal(f"the {planned.kind} sum of round {planned.round} does not follow round {session.state.round}")
    if manifest.layout_hash != lanes.hash:
        raise Refusal("the manifest's lanes are not those that follow from plan and state; both sides must run the same version")
    if manifest.previous_transcript != session.transcript:
        raise Refusal(f"the manifest does not follow the last transcript that {node.name} has seen")


def _vector(node: Node, request: Request, session: Session, planned: PlannedSum, lanes: LaneLayout) -> NDArray[np.uint32]:
    stored = node.ledger.vector(request.run, planned.round, planned.kind, session.state_hash)
    if stored is None:
        values = contribute(session.work, session.terms, session.state, planned)
        vector = encode(values, lanes, len(node.roster.entries), _rounding(node, planned))
        stored = vector.astype("<u4").tobytes()
        node.ledger.keep_vector(request.run, planned.round, planned.kind, session.state_hash, stored)
    return np.frombuffer(stored, "<u4")


def _rounding(node: Node, planned: PlannedSum) -> np.random.Generator:
    """Stochastic rounding: from the node's own randomness, or in simulation from a seed, so that a repeated run has the same bits."""
    seed = node.rounding_seed if node.rounding_seed is not None else node.randomness(32)
    material = hashlib.sha256(b"\0".join((b"consortium rounding", seed, node.name.encode(), f"{planned.round}/{planned.kind}".encode())))
    return np.random.Generator(np.random.Philox(key=int.from_bytes(material.digest()[:16], "little")))


def _claim_set(node: Node, request: Request, manifest: SumManifest, proposal: SurvivorProposal) -> None:
    """Opening binds as signing does: a member that was never asked to sign must not open two sets either."""
    members = "\n".join(sorted(proposal.members)).encode()
    sentence = f"{node.name} has already signed another set for this state and kind of sum"
    node.ledger.claim(f"set/{manifest.hash.hex()}", proposal.to_bytes(), f"{node.name} has already signed another set for this slot")
    node.ledger.claim(f"set/{manifest.state_hash.hex()}/{request.about}", members, sentence)


def _own_root(manifest: SumManifest) -> str:
    return f"root/{manifest.hash.hex()}"
