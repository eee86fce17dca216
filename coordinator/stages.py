"""The stages of one attempt at a sum: uploads, one set, one opening; each on disk before the next follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordinator.blame import Opening
from coordinator.cohort import Epoch
from coordinator.collecting import ask_uploads
from coordinator.errors import Shortage
from coordinator.link import Link, Reply, Subject
from coordinator.store import RunStore
from coordinator.sum_record import SumRecord
from coordinator.uploads import proposed_uploads, stored_uploads
from protocols.encoding import LaneLayout
from protocols.errors import DishonestMember
from protocols.pack import pack
from protocols.participation import fewest_in_a_sum
from protocols.roster import Roster
from protocols.schedule import PlannedSum, upload_deadline
from protocols.secagg import (
    Accumulator,
    OpenedSeeds,
    SumManifest,
    SurvivorCertificate,
    SurvivorProposal,
    UnmaskAnswer,
    certify,
    check_answer,
    check_signature,
    open_seeds,
    propose_survivors,
)
from protocols.terms import Terms


class AttemptFailed(Shortage):
    """Too few institutions answered a stage; asking again may succeed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a sum."""

    subject: Subject
    epoch: Epoch
    manifest: SumManifest
    lanes: LaneLayout
    record: SumRecord
    fewest: int = 0  # institutions that the sum before asks for

    @property
    def parts(self) -> dict[str, bytes]:
        return {"manifest": self.manifest.to_bytes(), "epoch": self.epoch.certificate.to_bytes(), "chain": self.record.chain}


@dataclass(frozen=True, slots=True)
class Stages:
    """Asks members of an attempt; `report` tells who answered a stage."""

    _terms: Terms
    _link: Link
    _store: RunStore
    _report: Callable[[Subject, str, set[str]], None]

    def collect(self, one: Attempt, planned: PlannedSum) -> Accumulator:
        """The sum of all uploads: of those that are on disk, and, until a set is proposed, of those that still come."""
        proposal, roster = one.record.proposal, self._roster(one)
        names = one.epoch.members if proposal is None else proposal.members
        spools = {name: one.record.spool(one.epoch.manifest, name, roster) for name in names}
        if proposal is not None:
            return proposed_uploads(one.manifest, spools, proposal, self._store.scratch())
        accumulator = stored_uploads(one.manifest, spools, self._store.scratch())
        message_type = "evaluate.sum" if planned.kind == "evaluate" else "train.sum"
        missing = {name: spool for name, spool in spools.items() if name not in accumulator.roots}
        deadline = upload_deadline(self._terms.plan, planned)
        ask_uploads(self._link, one.subject, message_type, one.parts, missing, accumulator, deadline)
        self._report(one.subject, message_type, set(accumulator.roots))
        self._enough(one, len(accumulator.roots), message_type)
        return accumulator

    def certificate(self, one: Attempt, accumulator: Accumulator) -> SurvivorCertificate:
        """Freezes the set on disk before anyone is asked to sign it: once signed there is no other."""
        proposal, stored = self._frozen(one, accumulator), one.record.certificate
        if stored is not None:
            return stored

        def signature_of(reply: Reply) -> bytes:
            check_signature(one.manifest, self._roster(one), proposal, reply.institution, reply.part("signature"))
            one.record.keep_answer("survivors", reply.institution, reply.part("signature"))
            return reply.part("signature")

        signatures = self._decide(one, "query.survivors", "survivors", {"proposal": proposal.to_bytes()}, proposal, signature_of)
        certificate = certify(one.manifest, one.epoch.manifest, self._roster(one), proposal, signatures)
        one.record.keep_certificate(certificate)
        return certificate

    def _frozen(self, one: Attempt, accumulator: Accumulator) -> SurvivorProposal:
        proposal = one.record.proposal or propose_survivors(one.manifest, accumulator.roots)
        frozen = self._store.journal.survivors
        if frozen and frozen != proposal.members:
            lost = ", ".join(sorted(set(frozen) - set(proposal.members)))
            raise AttemptFailed(f"{lost} sent nothing this time, and this sum is opened over the set that was proposed first or not at all")
        one.record.freeze(proposal)
        self._store.update(survivors=proposal.members)
        return proposal

    def open(self, one: Attempt, certificate: SurvivorCertificate) -> OpenedSeeds:
        epoch, setup, proposal = one.epoch.manifest, one.epoch.certificate, certificate.proposal
        blame, opening = self._store.blame(self._link.members.parties), Opening(one.manifest, epoch, setup)

        def answer_of(reply: Reply) -> bytes:
            answer = UnmaskAnswer.from_bytes(reply.part("answer"))
            for proof in opening.wrong_shares(reply.institution, reply.envelope, answer):
                blame.keep(proof)
            check_answer(epoch, setup, one.manifest.slot, proposal, reply.institution, answer)
            one.record.keep_answer("unmask", reply.institution, reply.part("answer"))
            return reply.part("answer")

        answers = self._decide(one, "query.unmask", "unmask", {"certificate": certificate.to_bytes()}, proposal, answer_of)
        read = {name: UnmaskAnswer.from_bytes(data) for name, data in answers.items()}
        try:
            return open_seeds(one.manifest, epoch, setup, certificate, read)
        except DishonestMember as fault:
            for proof in opening.wrong_dealer(fault.member, proposal.members, read):
                blame.keep(proof)
            raise

    def _decide(
        self,
        one: Attempt,
        message_type: str,
        stage: str,
        parts: dict[str, bytes],
        proposal: SurvivorProposal,
        read: Callable[[Reply], bytes],
    ) -> dict[str, bytes]:
        """Answers of at least threshold members of the set to a stage: those that are on disk, and those that still come."""
        stored = one.record.answers(stage)
        asked = [name for name in proposal.members if name not in stored]
        answers = stored | self._link.decide(one.subject, message_type, dict.fromkeys(asked, pack(one.parts | parts)), read)
        self._report(one.subject, message_type, set(answers))
        self._enough(one, len(answers), message_type, one.epoch.manifest.threshold)
        return answers

    def _roster(self, one: Attempt) -> Roster:
        return self._link.members.roster_of(one.epoch.manifest)

    def _enough(self, one: Attempt, count: int, stage: str, needed: int | None = None) -> None:
        needed = needed or max(one.epoch.manifest.threshold, fewest_in_a_sum(self._terms.plan), one.fewest)
        if count < needed:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(self._link.missing.items()))
            raise AttemptFailed(f"{count} institutions answered {stage} and {needed} are needed ({reasons})")
