"""One secure sum after PROTOCOL: manifest, uploads, one set, one opening, and the transcript; each on disk before the next follows.

A sum that was under way when its process died goes on from its record: what was asked is asked again with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coordinator.answers import Answers
from coordinator.bound_sets import BoundSets
from coordinator.cohort import Cohort, Epoch
from coordinator.errors import JobError, RunStopped, SetLost, Shortage
from coordinator.events import Event, StageFinished, SumFinished
from coordinator.link import Link, Subject
from coordinator.publishing import publish, subject_of
from coordinator.registry.registry import Registry
from coordinator.stages import Attempt, AttemptFailed, Stages
from coordinator.store import RunStore
from coordinator.submission import begun_alike
from coordinator.sum_record import SumRecord
from protocols.chain import MOST_DIGESTS
from protocols.encoding import LaneLayout, decode
from protocols.errors import ConsortiumError, ProtocolError
from protocols.participation import fewest_in_a_sum, institutions_of, members_of
from protocols.parts import pre_round_of
from protocols.proposals import Proposal
from protocols.schedule import PlannedSum
from protocols.secagg import (
    Accumulator,
    OpenedSeeds,
    SumManifest,
    SurvivorCertificate,
    remove_masks,
    root_of,
    rows_of,
)
from protocols.state import PreRound, State, state_hash
from protocols.sums.figures import Figures
from protocols.terms import Terms
from protocols.transcript import Transcript, survivors_of


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


class RoundEngine:
    """Runs a plan's sums over one link; keeps the epoch between them and nothing else."""

    def __init__(
        self,
        terms: Terms,
        link: Link,
        store: RunStore,
        registry: Registry,
        on_event: Callable[[Event], None],
    ) -> None:
        self.link = link
        self._terms = terms
        self._store = store
        self._registry = registry
        self._on_event = on_event
        self.cohort = Cohort(terms, link, store, Answers(registry, link.members, link.run, terms.plan), on_event)
        self._stages = Stages(terms, link, store, self._report)
        self._epoch: Epoch | None = None

    def run_sum(self, planned: PlannedSum, state: State) -> FinishedSum:
        """Attempts a sum until it is opened.

        Raises:
            Shortage: every attempt had too few institutions; the sentence names those that were missing last.
            SetLost: the set that was proposed can never be opened, and no other one may be.
            RunStopped: the operator does not want it any more, and no set was proposed.
            JobError: every attempt failed otherwise.
        """
        attempts = 1 + self._terms.plan.participation.retries
        for left in reversed(range(attempts)):
            try:
                return self._attempt(planned, state)
            except RunStopped:
                raise
            except (JobError, ProtocolError) as failure:
                self._give_up(planned, state, failure)
                if left == 0:
                    kind = type(failure) if isinstance(failure, Shortage) else JobError
                    raise kind(f"round {planned.round}, {planned.kind}: {failure} (after {attempts} attempts)") from None
        raise AssertionError("unreachable")

    def lacking(self, planned: PlannedSum, state: State) -> str:
        """Whom a sum lacks among those on the roster now, as a sentence; empty if it can be attempted.

        Of a set that was proposed as many are needed as open it, otherwise as many as the plan wants.
        """
        self.link.members.refresh()
        survivors, of = self._store.journal.survivors, self._members(planned)
        present = self.cohort.present(state, survivors, of)
        if survivors and self._can_open(planned, set(present)):
            return ""
        try:
            self.cohort.check_size(present, of, survivors)
        except Shortage as shortage:
            return f"round {planned.round}, {planned.kind}: {shortage}"
        return ""

    def _can_open(self, planned: PlannedSum, present: set[str]) -> bool:
        """Whether the set under way is opened by those who are there with what others answered before; in another epoch all are needed."""
        journal = self._store.journal
        record = SumRecord(self._store.record_path(planned, journal.attempt))
        if journal.given_up or record.proposal is None or not self.cohort.is_last(record.manifest.epoch_hash):
            return False
        answered = record.answers("survivors" if record.certificate is None else "unmask")
        return len(present | answered.keys()) >= journal.threshold

    def publish(self, finished: FinishedSum) -> None:
        """Tells every member of the epoch the total; each applies it by itself and must reach the announced state."""
        if self._epoch is None:
            return
        subject = subject_of(finished.transcript)
        agreed = publish(self.link, finished.record, self._epoch.manifest.members)
        self._report(subject, "query.transcript", agreed)
        dropped = set(self._epoch.manifest.members) - set(self._epoch.members) or set(self._epoch.members) - agreed
        absent = len(self._epoch.members) < len(self._epoch.of)
        if dropped or (absent and finished.planned.last_of_round):
            self._epoch = None  # who is back takes part from the next epoch on

    def tell_rest(self, state: State) -> None:
        """Tells the last sum to members of its epoch that did not confirm it, as nobody asks them anything afterwards."""
        published = self._store.published
        if published is not None and published.unconfirmed:
            self.cohort.present(state)

    def _attempt(self, planned: PlannedSum, state: State) -> FinishedSum:
        one = self._resumed(planned, state) or self._begun(planned, state)
        accumulator = self._stages.collect(one, planned)
        certificate = self._stages.certificate(one, accumulator)
        opened = self._stages.open(one, certificate)
        return self._applied(one, planned, state, certificate, opened, accumulator)

    def _begun(self, planned: PlannedSum, state: State) -> Attempt:
        """A new attempt, in a new epoch if the former one is used up, or of other institutions or keys than roster, sum or proposed set."""
        self.link.members.refresh()
        journal, of, epoch = self._store.journal, self._members(planned), self._epoch
        if epoch is None or not self._goes_on(epoch, of):
            epoch = self._epoch = self.cohort.begin_epoch(state, of, journal.survivors, pre_round_of(planned, state))
        lanes, attempt = self._terms.lanes(state, planned), self._store.next_attempt(planned)
        manifest = self._manifest(planned, state, epoch, lanes, attempt)
        record = SumRecord.begin(self._store.record_path(planned, attempt), manifest, self._chain(manifest))
        self._store.update(attempt=attempt, given_up=False)
        return self._sum(planned, state, epoch, record)

    def _goes_on(self, epoch: Epoch, of: tuple[str, ...]) -> bool:
        """Whether an epoch is of the present roster and of these institutions, of the proposed set if there is one, and has a slot."""
        survivors = self._store.journal.survivors
        same = epoch.of == of and self.link.members.is_current(epoch.manifest) and (not survivors or survivors == epoch.members)
        return same and not epoch.used_up

    def _members(self, planned: PlannedSum) -> tuple[str, ...]:
        """Everybody on the roster, or the round's batch."""
        return members_of(self._terms.plan, self.link.roster.names, planned.round, planned.kind)

    def _resumed(self, planned: PlannedSum, state: State) -> Attempt | None:
        """The attempt that is under way, in this process or since one before, if its epoch is known."""
        journal = self._store.journal
        if journal.given_up:
            return None
        record = SumRecord(self._store.record_path(planned, journal.attempt))
        manifest = record.manifest
        # Whoever was away has come to other ends of connections; the epoch itself goes on.
        self._epoch = self.cohort.resume_epoch(state, self._members(planned), manifest.epoch_hash)
        longest = max(self.link.seen_events.values(), default=0)
        if self._epoch is None:
            return None
        # A node refuses a chain that is shorter than one that it saw meanwhile, in another run, and inputs to an epoch of former keys.
        ended = longest > manifest.chain_length or not self.link.members.is_current(self._epoch.manifest)
        if ended and record.proposal is None:
            return None
        self._show_head(manifest)
        return self._sum(planned, state, self._epoch, record)

    def _sum(self, planned: PlannedSum, state: State, epoch: Epoch, record: SumRecord) -> Attempt:
        manifest, before = record.manifest, pre_round_of(planned, state)
        subject, lanes = Subject(planned.round, planned.kind, manifest.attempt, manifest.hash), self._terms.lanes(state, planned)
        return Attempt(subject, epoch, manifest, lanes, record, 0 if before is None else before.threshold)

    def _give_up(self, planned: PlannedSum, state: State, failure: ConsortiumError) -> None:
        """What was never proposed is begun anew; a proposed set that only lacks answers is asked again.

        Where members refuse for good, those left may be as many as open the set in an epoch of its own.
        """
        journal = self._store.journal
        record, survivors, replaced = SumRecord(self._store.record_path(planned, journal.attempt)), journal.survivors, journal.replaced
        if not journal.given_up and isinstance(failure, AttemptFailed) and record.proposal is not None:
            bound = BoundSets(record.proposal.members, dict(self.link.bound))
            of, before = self._members(planned), pre_round_of(planned, state)
            if not bound.is_lost(journal.threshold):
                return
            if bound.is_lost(self.cohort.threshold(bound.proposed, of, before)):
                survivors, replaced = self._instead(planned, bound, of, before), True
        self._store.update(survivors=survivors, replaced=replaced, given_up=True)  # at once: the record holds the former set
        self._epoch = None

    def _instead(self, planned: PlannedSum, bound: BoundSets, of: tuple[str, ...], before: PreRound | None) -> tuple[str, ...]:
        """The set that institutions are bound to, once a sum, if it fits and nobody is known to have signed the one that is lost.

        Raises:
            SetLost: none is, and more refuse the lost one than may lie together.
            Shortage: none is, and all who refuse it may lie.
        """
        plan, colluding = self._terms.plan, self._terms.plan.secure_aggregation.colluding
        other = bound.other(colluding, of if before is None else before.members)
        fits = other is not None and len(other) >= max(fewest_in_a_sum(plan), self.cohort.threshold(other, of, before))
        if other is None or not fits or self._store.journal.replaced or self._store.is_signed(planned, bound.proposed):
            earlier = [run for run in begun_alike(self._registry, plan) if run != self.link.run]
            # As many as may lie do not end a run with a word.
            kind = SetLost if len(bound.refusing) > colluding else Shortage
            raise kind(f"round {planned.round}: {bound.sentence(planned.kind, colluding, other, earlier)}")
        return other

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
        self._show_head(manifest)
        end = manifest.chain_length
        return self._registry.digests(max(min(self.link.seen_events.values(), default=end), end - MOST_DIGESTS), end)

    def _show_head(self, manifest: SumManifest) -> None:
        """Who saw no event chain takes the manifest's head on trust, and goes on from there."""
        seen = self.link.seen_events
        seen.update({name: manifest.chain_length for name, length in seen.items() if not length})

    def _applied(
        self,
        one: Attempt,
        planned: PlannedSum,
        state: State,
        certificate: SurvivorCertificate,
        opened: OpenedSeeds,
        accumulator: Accumulator,
    ) -> FinishedSum:
        total, epoch = remove_masks(accumulator, opened), one.epoch
        n, survivors = epoch.manifest.n, survivors_of(epoch.manifest, certificate)
        everybody = institutions_of(self._terms.plan, n)
        after, figures = self._terms.apply(state, planned, decode(total, one.lanes, n), survivors, everybody)
        after = self._terms.adopt(after, planned, self._rebalancing(one, planned, after))
        digest, written = root_of(one.manifest.lanes, total), one.manifest.lanes.written(total)
        transcript = Transcript(one.manifest, epoch.manifest, epoch.certificate, certificate, opened.hash, digest, state_hash(after))
        one.record.keep_outcome(transcript, opened, written, rows_of(epoch.certificate, one.manifest.slot, opened))
        self._on_event(SumFinished(planned.round, planned.kind, certificate.proposal.members))
        return FinishedSum(planned, after, figures, one.record, transcript)

    def _rebalancing(self, one: Attempt, planned: PlannedSum, after: State) -> Proposal:
        """The proposal of the sum, as it was made first: an SVD may have other bits each time."""
        kept = one.record.rebalancing
        return kept if kept is not None else one.record.keep_rebalancing(self._terms.propose(after, planned))

    def _report(self, subject: Subject, stage: str, answered: set[str]) -> None:
        missing = tuple(sorted(self.link.missing.items()))
        self._on_event(StageFinished(subject.round, subject.about, subject.attempt, stage, tuple(sorted(answered)), missing))
        if self._epoch is not None:
            self._epoch.without(set(self.link.missing))
