"""What the coordinator holds during one sum: it runs alone in a process of its own, and the members in another send it uploads."""

from __future__ import annotations

import hashlib
import multiprocessing
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from benchmarks.cohort import Cohort, certified_cohort
from benchmarks.timing import resident_peak
from protocols.epoch import EpochCertificate, EpochManifest, certify_epoch, read_confirmation, read_keys, read_shares, setup_hash
from protocols.lanes import LaneFormat
from protocols.merkle import leaf_hash
from protocols.roster import Roster
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
    mask_input,
    open_seeds,
    propose_survivors,
    remove_masks,
    sign_survivors,
    unmask,
)


@dataclass(frozen=True, slots=True)
class Peaks:
    """Bytes of the coordinator's process at most: with the setup of the epoch read and checked, and until the sum was open.

    Interpreter and libraries are in both. The setup's messages, about a kilobyte for each pair of members, stay until the sum is
    open. In the sum it holds the accumulator and one upload, which a deployed coordinator keeps in a file instead.
    """

    setup: int
    sum: int


def coordinator_peaks(institutions: int, elements: int) -> Peaks:
    """One sum without dropouts, checked; members mask one after the other as the coordinator takes their uploads."""
    cohort = certified_cohort(institutions)
    manifest, vector = cohort.manifest(LaneFormat(elements, 0, 32)), np.arange(elements, dtype=np.uint32)
    context = multiprocessing.get_context("spawn")  # a fresh process, which shares no memory with the members'
    members, coordinator = context.Pipe()
    process = context.Process(target=_coordinate, args=(coordinator,))
    process.start()
    coordinator.close()
    with members:
        members.send((cohort.epoch.to_bytes(), cohort.roster.to_bytes(), manifest.to_bytes(), cohort.messages))
        setup, peak, total = _play_members(members, cohort, manifest, vector)
    process.join()
    vector *= np.uint32(institutions)
    if total != hashlib.sha256(vector.data).digest():
        raise ArithmeticError("the opened total is not the sum of the vectors")
    return Peaks(setup, peak)


def _play_members(pipe: Connection, cohort: Cohort, manifest: SumManifest, vector: NDArray[np.uint32]) -> tuple[int, int, bytes]:
    roots = {}
    for name, identity in cohort.identities.items():
        upload = mask_input(cohort.states[name], manifest, vector, identity)
        roots[name] = upload.root.root
        pipe.send_bytes(upload.root.to_bytes())
        for chunk in upload.chunks:
            pipe.send_bytes(chunk)
    proposal = SurvivorProposal.from_bytes(pipe.recv_bytes())
    signatures = {n: sign_survivors(cohort.states[n], manifest, proposal, roots[n], i) for n, i in cohort.identities.items()}
    pipe.send(signatures)
    certificate = SurvivorCertificate.from_bytes(pipe.recv_bytes())
    answers = {n: unmask(cohort.states[n], manifest, certificate, cohort.roster, i) for n, i in cohort.identities.items()}
    pipe.send({name: answer.to_bytes() for name, answer in answers.items()})
    setup, peak, total = pipe.recv()
    return setup, peak, total


def _coordinate(pipe: Connection) -> None:
    epoch, roster, manifest, setup = _read_setup(pipe)
    before, accumulator = resident_peak(), Accumulator(manifest)
    for _ in epoch.members:
        accumulator.add(_read_upload(pipe, manifest, roster))
    proposal = propose_survivors(manifest, accumulator.roots)
    pipe.send_bytes(proposal.to_bytes())
    certificate = certify(manifest, epoch, roster, proposal, pipe.recv())
    pipe.send_bytes(certificate.to_bytes())
    answers = {name: UnmaskAnswer.from_bytes(data) for name, data in pipe.recv().items()}
    total = remove_masks(accumulator, open_seeds(manifest, epoch, setup, certificate, answers))
    pipe.send((before, resident_peak(), hashlib.sha256(total.data).digest()))


def _read_setup(pipe: Connection) -> tuple[EpochManifest, Roster, SumManifest, EpochCertificate]:
    epoch_bytes, roster_bytes, manifest_bytes, (keys, shares, confirmations) = pipe.recv()
    epoch, roster = EpochManifest.from_bytes(epoch_bytes), Roster.from_bytes(roster_bytes)
    key_messages = {name: read_keys(epoch, roster, name, data) for name, data in keys.items()}
    dealt = {name: read_shares(epoch, roster, key_messages, name, data) for name, data in shares.items()}
    agreed = setup_hash(epoch, key_messages, dealt)
    confirmed = {name: read_confirmation(epoch, roster, agreed, dealt[name], name, data) for name, data in confirmations.items()}
    return epoch, roster, SumManifest.from_bytes(manifest_bytes), certify_epoch(epoch, key_messages, dealt, confirmed)


def _read_upload(pipe: Connection, manifest: SumManifest, roster: Roster) -> CheckedUpload:
    root = UploadRoot.from_bytes(pipe.recv_bytes())
    chunks = [pipe.recv_bytes() for _ in range(manifest.lanes.chunks)]
    return check_upload(manifest, roster, root, chunks, [leaf_hash(chunk) for chunk in chunks])
