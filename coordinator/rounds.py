"""One secure sum after PROTOCOL: manifest, uploads, one set, one opening, and the transcript; each on disk before the next follows.

A sum that was under way when its process died goes on from its record: what was asked is asked again with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordinator.abandoning import Abandoning, Record, differs_enough
from coordinator.blame import Opening
from coordinator.cohort import Cohort, Epoch
from coordinator.collecting import ask_uploads, proposed_uploads, stored_uploads
from coordinator.errors import JobError
from coordinator.events import Event, StageFinished, SumFinished
from coordinator.link import Link, Reply, Subject
from coordinator.publishing import publish, subject_of
from coordinator.registry.registry import Registry
from coordinator.store import RunStore
from coordinator.sum_record import SumRecord
from protocols.aggregation.rebalance import Proposal
from protocols.chain import MOST_DIGESTS
from protocols.encoding import LaneLayout, decode
from protocols.errors import ConsortiumError, DishonestMember, ProtocolError
from protocols.pack import pack
from protocols.parts import allowed_members
from protocols.schedule import PlannedSum
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
    remove_masks,
    total_root,
    write_total,
)
from protocols.state import State, state_hash
from protocols.transcript import Transcript, survivors_of
from protocols.update import Figures, Terms


class AttemptFailed(JobError):
    """Too few institutions answered a stage; asking again may succeed."""


@dataclass(frozen=True, slots=True)
class FinishedSum:
    """An opened and applied sum."""

    planned: PlannedSum
    state: State  # after the sum
    figures: Figures
    record: SumRecord
    transcript: Transcript

    @property
    def survivors(self) -> tuple[str, ...]:
        return self.transcript.certificate.proposal.members


@dataclass(frozen=True, slots=True)
class _Sum:
    """One attempt at a sum."""

    subject: Subject
    epoch: Epoch
    manifest: SumManifest
    lanes: LaneLayout
    record: SumRecord

    @property
    def parts(self) -> dict[str, bytes]:
        return {"manifest": self.manifest.to_bytes(), "epoch": self.epoch.certificate.to_bytes(), "chain": self.record.chain}


class RoundEngine:
    """Runs a plan's sums over one link; keeps the epoch between them and nothing else."""

    def __init__(
        self,
        terms: Terms,
        link: Link,
        store: RunStore,
        registry: Registry,
        record: Record,
        on_event: Callable[[Event], None],
    ) -> None:
        self.link = link
        self._terms = terms
        self._store = store
        self._registry = registry
        self._on_event = on_event
        self._cohort = Cohort(terms, link, store, on_event)
        self._abandoning = Abandoning(self._cohort, store, record, on_event)
        self._epoch: Epoch | None = None

    def run_sum(self, planned: PlannedSum, state: State) -> FinishedSum:
        """Attempts a sum until it is opened; a set that cannot be is given up if the institutions present differ from it in enough.

        Raises:
            JobError: every attempt failed; the sentence names the institutions that were missing last.
        """
        while True:
            try:
                return self._attempts(planned, state)
            except JobError:
                if not self._abandoning.give_up(planned, state):
                    raise
                self._epoch = None

    def _attempts(self, planned: PlannedSum, state: State) -> FinishedSum:
        attempts = 1 + self._terms.plan.participation.retries
        for left in reversed(range(attempts)):
            try:
                return self._attempt(planned, state)
            except (JobError, ProtocolError) as failure:
                self._give_up(planned, failure)
                if left == 0:
                    raise JobError(f"round {planned.round}, {planned.kind}: {failure} (after {attempts} attempts)") from None
        raise AssertionError("unreachable")

    def publish(self, finished: FinishedSum) -> None:
        """Tells every member of the epoch the total; each applies it by itself and must reach the announced state."""
        if self._epoch is None:
            return
        subject = subject_of(finished.transcript)
        agreed = publish(self.link, finished.record, self._epoch.manifest.members)
        self._report(subject, "query.transcript", agreed)
        dropped = set(self._epoch.manifest.members) - set(self._epoch.members) or set(self._epoch.members) - agreed
        absent = len(self._epoch.members) < len(self.link.roster.entries)
        if dropped or (absent and finished.planned.last_of_round):
            self._epoch = None  # who is back takes part from the next epoch on

    def tell_rest(self, state: State) -> None:
        """Tells the last sum to members of its epoch that did not confirm it, as nobody asks them anything afterwards."""
        published = self._store.published
        if published is not None and published.unconfirmed:
            self._cohort.present(state)

    def _attempt(self, planned: PlannedSum, state: State) -> FinishedSum:
        one = self._resumed(planned, state) or self._begun(planned, state)
        accumulator = self._collect(one, planned)
        certificate = self._certificate(one, accumulator)
        opened = self._open(one, certificate)
        return self._applied(one, planned, state, certificate, opened, accumulator)

    def _begun(self, planned: PlannedSum, state: State) -> _Sum:
        """A new attempt, in a new epoch if the former one is used up or its members are not the set that was proposed."""
        journal = self._store.journal
        if self._epoch is None or self._epoch.used_up or (journal.survivors and journal.survivors != self._epoch.members):
            self._epoch = self._cohort.begin_epoch(state, journal.survivors, allowed_members(planned, state))
        lanes, attempt = self._terms.lanes(state, planned), self._store.next_attempt(planned)
        manifest = self._manifest(planned, state, self._epoch, lanes, attempt)
        record = SumRecord.begin(self._store.record_path(planned, attempt), manifest, self._chain(manifest))
        self._store.update(attempt=attempt, given_up=False)
        return self._sum(planned, self._epoch, record, manifest, lanes)

    def _resumed(self, planned: PlannedSum, state: State) -> _Sum | None:
        """The attempt that is under way, in this process or since one before, if its epoch is known."""
        journal = self._store.journal
        if journal.given_up:
            return None
        record = SumRecord(self._store.record_path(planned, journal.attempt))
        manifest = record.manifest
        # Whoever was away has come to other ends of connections; the epoch itself goes on.
        self._epoch = self._cohort.resume_epoch(state, manifest.epoch_hash)
        if self._epoch is None:
            return None
        return self._sum(planned, self._epoch, record, manifest, self._terms.lanes(state, planned))

    def _sum(self, planned: PlannedSum, epoch: Epoch, record: SumRecord, manifest: SumManifest, lanes: LaneLayout) -> _Sum:
        return _Sum(Subject(planned.round, planned.kind, manifest.attempt, manifest.hash), epoch, manifest, lanes, record)

    def _give_up(self, planned: PlannedSum, failure: ConsortiumError) -> None:
        """What was never proposed is begun anew; a proposed set that only lacks answers is asked again."""
        journal = self._store.journal
        record = SumRecord(self._store.record_path(planned, journal.attempt))
        if not journal.given_up and isinstance(failure, AttemptFailed) and record.proposal is not None:
            return
        self._store.update(given_up=True)
        self._epoch = None

    def _manifest(self, planned: PlannedSum, state: State, epoch: Epoch, lanes: LaneLayout, attempt: int) -> SumManifest:
        head, journal = self._registry.head(), self._store.journal
        return SumManifest(
            run=self.link.run,
            round=planned.round,
            sum=planned.kind,
            attempt=attempt,
            slot=epoch.take_slot(),
            plan_hash=bytes.fromhex(self._terms.plan.sha256),
            epoch_hash=epoch.manifest.hash,
            state_hash=state_hash(state),
            layout_hash=lanes.hash,
            lanes=lanes.format,
            previous_transcript=bytes.fromhex(journal.transcript) or bytes(32),
            chain_head=head.hash,
            chain_length=head.length,
        ).signed_by(self.link.identity.sign)

    def _chain(self, manifest: SumManifest) -> bytes:
        """Digests of the events since the shortest chain that an institution saw last."""
        end, seen = manifest.chain_length, self.link.seen_events
        seen.update({name: end for name, length in seen.items() if not length})  # who saw none takes this head on trust
        return self._registry.digests(max(min(seen.values(), default=end), end - MOST_DIGESTS), end)

    def _collect(self, one: _Sum, planned: PlannedSum) -> Accumulator:
        """The sum of all uploads: of those that are on disk, and, until a set is proposed, of those that still come."""
        proposal, roster = one.record.proposal, self.link.roster
        names = one.epoch.members if proposal is None else proposal.members
        spools = {name: one.record.spool(one.epoch.manifest, name, roster) for name in names}
        if proposal is not None:
            return proposed_uploads(one.manifest, spools, proposal)
        accumulator = stored_uploads(one.manifest, spools)
        message_type = "evaluate.sum" if planned.kind == "evaluate" else "train.sum"
        missing = {name: spool for name, spool in spools.items() if name not in accumulator.roots}
        ask_uploads(self.link, one.subject, message_type, one.parts, missing, accumulator)
        self._report(one.subject, message_type, set(accumulator.roots))
        self._enough(one, len(accumulator.roots), message_type)
        return accumulator

    def _certificate(self, one: _Sum, accumulator: Accumulator) -> SurvivorCertificate:
        """Freezes the set on disk before anyone is asked to sign it: once signed there is no other."""
        proposal, stored = self._frozen(one, accumulator), one.record.certificate
        if stored is not None:
            return stored

        def signature_of(reply: Reply) -> bytes:
            check_signature(one.manifest, self.link.roster, proposal, reply.institution, reply.part("signature"))
            one.record.keep_answer("survivors", reply.institution, reply.part("signature"))
            return reply.part("signature")

        signatures = self._decide(one, "query.survivors", "survivors", {"proposal": proposal.to_bytes()}, proposal, signature_of)
        certificate = certify(one.manifest, one.epoch.manifest, self.link.roster, proposal, signatures)
        one.record.keep_certificate(certificate)
        return certificate

    def _frozen(self, one: _Sum, accumulator: Accumulator) -> SurvivorProposal:
        proposal = one.record.proposal or propose_survivors(one.manifest, accumulator.roots)
        frozen = self._store.journal.survivors
        if frozen and frozen != proposal.members:
            lost = ", ".join(sorted(set(frozen) - set(proposal.members)))
            raise AttemptFailed(f"{lost} sent nothing this time, and this sum is opened over the set that was proposed first or not at all")
        if not differs_enough(proposal.members, self._store.journal.abandoned, self._terms.plan.secure_aggregation.colluding):
            raise AttemptFailed("the institutions that sent their input differ too little from a set that was given up before")
        one.record.freeze(proposal)
        self._store.update(survivors=proposal.members)
        return proposal

    def _open(self, one: _Sum, certificate: SurvivorCertificate) -> OpenedSeeds:
        epoch, setup, proposal = one.epoch.manifest, one.epoch.certificate, certificate.proposal
        blame, opening = self._store.blame(self.link.roster, self.link.identity.public_key), Opening(one.manifest, epoch, setup)

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
        one: _Sum,
        message_type: str,
        stage: str,
        parts: dict[str, bytes],
        proposal: SurvivorProposal,
        read: Callable[[Reply], bytes],
    ) -> dict[str, bytes]:
        """Answers of at least threshold members of the set to a stage: those that are on disk, and those that still come."""
        stored = one.record.answers(stage)
        asked = [name for name in proposal.members if name not in stored]
        answers = stored | self.link.decide(one.subject, message_type, dict.fromkeys(asked, pack(one.parts | parts)), read)
        self._report(one.subject, message_type, set(answers))
        self._enough(one, len(answers), message_type, one.epoch.manifest.threshold)
        return answers

    def _applied(
        self,
        one: _Sum,
        planned: PlannedSum,
        state: State,
        certificate: SurvivorCertificate,
        opened: OpenedSeeds,
        accumulator: Accumulator,
    ) -> FinishedSum:
        total, epoch = remove_masks(accumulator, opened), one.epoch
        written = write_total(one.manifest.lanes, total)
        values = decode(total, one.lanes, len(self.link.roster.entries))
        after, figures = self._terms.apply(state, planned, values, survivors_of(epoch.manifest, certificate))
        after = self._terms.adopt(after, planned, self._rebalancing(one, planned, after))
        digest = total_root(one.manifest.lanes, written)
        transcript = Transcript(one.manifest, epoch.manifest, epoch.certificate, certificate, opened.hash, digest, state_hash(after))
        one.record.keep_outcome(transcript, opened, written)
        self._on_event(SumFinished(planned.round, planned.kind, certificate.proposal.members))
        return FinishedSum(planned, after, figures, one.record, transcript)

    def _rebalancing(self, one: _Sum, planned: PlannedSum, after: State) -> Proposal:
        """The proposal of the sum, as it was made first: an SVD may have other bits each time."""
        kept = one.record.rebalancing
        return kept if kept is not None else one.record.keep_rebalancing(self._terms.propose(after, planned))

    def _enough(self, one: _Sum, count: int, stage: str, needed: int | None = None) -> None:
        needed = needed or max(one.epoch.manifest.threshold, self._terms.plan.participation.quorum)
        if count < needed:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(self.link.missing.items()))
            raise AttemptFailed(f"{count} institutions answered {stage} and {needed} are needed ({reasons})")

    def _report(self, subject: Subject, stage: str, answered: set[str]) -> None:
        missing = tuple(sorted(self.link.missing.items()))
        self._on_event(StageFinished(subject.round, subject.about, subject.attempt, stage, tuple(sorted(answered)), missing))
        if self._epoch is not None:
            self._epoch.without(set(self.link.missing))
