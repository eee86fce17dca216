"""One secure sum after PROTOCOL: manifest, masked inputs added as they arrive, one set, one opening, and the transcript."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.cohort import Cohort, Epoch
from coordinator.errors import JobError
from coordinator.events import Event, StageFinished, SumFinished
from coordinator.link import Link, Reply, Subject
from coordinator.publishing import publish, subject_of
from coordinator.registry.registry import Registry
from coordinator.store import Published, RunStore
from protocols.chain import MOST_DIGESTS
from protocols.encoding import LaneLayout, decode
from protocols.errors import ProtocolError
from protocols.pack import pack
from protocols.schedule import PlannedSum
from protocols.secagg import (
    Accumulator,
    MaskedInput,
    OpenedSeeds,
    SumManifest,
    SurvivorCertificate,
    UnmaskAnswer,
    certify,
    check_answer,
    check_signature,
    open_seeds,
    propose_survivors,
    remove_masks,
)
from protocols.state import State, state_hash
from protocols.transcript import Transcript
from protocols.update import Figures, Terms


class AttemptFailed(JobError):
    """Too few institutions answered a stage; another attempt may succeed."""


@dataclass(frozen=True, slots=True)
class FinishedSum:
    """An opened and applied sum."""

    planned: PlannedSum
    state: State  # after the sum
    figures: Figures
    survivors: tuple[str, ...]
    transcript: Transcript
    total: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class _Sum:
    """One attempt at a sum."""

    subject: Subject
    epoch: Epoch
    manifest: SumManifest
    lanes: LaneLayout
    chain: bytes  # digests of the registry's last events, up to the manifest's head

    @property
    def parts(self) -> dict[str, bytes]:
        return {"manifest": self.manifest.to_bytes(), "epoch": self.epoch.certificate.to_bytes(), "chain": self.chain}


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
        self._cohort = Cohort(terms, link, store, on_event)
        self._epoch: Epoch | None = None

    def run_sum(self, planned: PlannedSum, state: State) -> FinishedSum:
        """Attempts a sum until it is opened.

        Raises:
            JobError: every attempt failed; the sentence names the institutions that were missing last.
        """
        attempts = 1 + self._terms.plan.participation.retries
        for left in reversed(range(attempts)):
            try:
                return self._attempt(planned, state)
            except (JobError, ProtocolError) as failure:
                self._epoch = None
                if left == 0:
                    raise JobError(f"round {planned.round}, {planned.kind}: {failure} (after {attempts} attempts)") from None
        raise AssertionError("unreachable")

    def publish(self, finished: FinishedSum) -> None:
        """Tells every member of the epoch the total; each applies it by itself and must reach the announced state."""
        if self._epoch is None:
            return
        subject, published = subject_of(finished.transcript), Published(finished.transcript, finished.total)
        agreed = publish(self.link, self._store, published, self._epoch.manifest.members)
        self._report(subject, "query.transcript", agreed)
        dropped = set(self._epoch.manifest.members) - set(self._epoch.members) or set(self._epoch.members) - agreed
        absent = len(self._epoch.members) < len(self.link.roster.entries)
        if dropped or (absent and finished.planned.last_of_round):
            self._epoch = None  # who is back takes part from the next epoch on

    def _attempt(self, planned: PlannedSum, state: State) -> FinishedSum:
        journal = self._store.journal
        journal = self._store.update(attempt=journal.attempt + 1)
        if self._epoch is None or self._epoch.used_up or (journal.survivors and journal.survivors != self._epoch.members):
            self._epoch = self._cohort.begin_epoch(state, journal.survivors)
        lanes = self._terms.lanes(state, planned)
        manifest = self._manifest(planned, state, self._epoch, lanes)
        one = _Sum(
            Subject(planned.round, planned.kind, journal.attempt, manifest.hash), self._epoch, manifest, lanes, self._chain(manifest)
        )
        accumulator = self._collect(one, planned)
        certificate = self._certificate(one, accumulator)
        opened = self._open(one, certificate)
        return self._applied(one, planned, state, certificate, opened, remove_masks(accumulator, opened))

    def _manifest(self, planned: PlannedSum, state: State, epoch: Epoch, lanes: LaneLayout) -> SumManifest:
        head, journal = self._registry.head(), self._store.journal
        return SumManifest(
            run=self.link.run,
            round=planned.round,
            sum=planned.kind,
            attempt=journal.attempt,
            slot=epoch.take_slot(),
            plan_hash=bytes.fromhex(self._terms.plan.sha256),
            epoch_hash=epoch.manifest.hash,
            state_hash=state_hash(state),
            layout_hash=lanes.hash,
            size=lanes.size,
            previous_transcript=bytes.fromhex(journal.transcript) or bytes(32),
            chain_head=head.hash,
            chain_length=head.length,
        )

    def _chain(self, manifest: SumManifest) -> bytes:
        """Digests of the events since the shortest chain that an institution saw last."""
        end, seen = manifest.chain_length, self.link.seen_events
        seen.update({name: end for name, length in seen.items() if not length})  # who saw none takes this head on trust
        return self._registry.digests(max(min(seen.values(), default=end), end - MOST_DIGESTS), end)

    def _collect(self, one: _Sum, planned: PlannedSum) -> Accumulator:
        """Adds masked inputs as they arrive: one accumulator and one input in memory, however many institutions there are."""
        accumulator = Accumulator(one.manifest, self.link.roster)
        message_type = "evaluate.sum" if planned.kind == "evaluate" else "train.sum"

        def add(reply: Reply) -> None:
            accumulator.add(MaskedInput(reply.institution, reply.array("masked"), reply.part("root"), reply.part("signature")))

        self.link.collect(one.subject, message_type, dict.fromkeys(one.epoch.members, pack(one.parts)), add)
        self._report(one.subject, message_type, set(accumulator.roots))
        self._enough(one, len(accumulator.roots), message_type)
        return accumulator

    def _certificate(self, one: _Sum, accumulator: Accumulator) -> SurvivorCertificate:
        """Freezes the set on disk before anyone is asked to sign it: once signed there is no other."""
        proposal, frozen = propose_survivors(accumulator), self._store.journal.survivors
        if frozen and frozen != proposal.members:
            lost = ", ".join(sorted(set(frozen) - set(proposal.members)))
            raise AttemptFailed(f"{lost} sent nothing this time, and this sum is opened over the set that was proposed first or not at all")
        self._store.update(survivors=proposal.members)
        payload = pack(one.parts | {"proposal": proposal.to_bytes()})

        def signature_of(reply: Reply) -> bytes:
            check_signature(one.manifest, self.link.roster, proposal, reply.institution, reply.part("signature"))
            return reply.part("signature")

        signatures = self.link.collect(one.subject, "query.survivors", dict.fromkeys(proposal.members, payload), signature_of)
        self._report(one.subject, "query.survivors", set(signatures))
        self._enough(one, len(signatures), "query.survivors", one.epoch.manifest.threshold)
        return certify(one.manifest, one.epoch.manifest, self.link.roster, proposal, signatures)

    def _open(self, one: _Sum, certificate: SurvivorCertificate) -> OpenedSeeds:
        payload = pack(one.parts | {"certificate": certificate.to_bytes()})

        def answer_of(reply: Reply) -> UnmaskAnswer:
            answer = UnmaskAnswer.from_bytes(reply.part("answer"))
            check_answer(one.epoch.manifest, one.epoch.certificate, one.manifest.slot, certificate.proposal, reply.institution, answer)
            return answer

        answers = self.link.collect(one.subject, "query.unmask", dict.fromkeys(certificate.proposal.members, payload), answer_of)
        self._report(one.subject, "query.unmask", set(answers))
        self._enough(one, len(answers), "query.unmask", one.epoch.manifest.threshold)
        return open_seeds(one.manifest, one.epoch.manifest, one.epoch.certificate, certificate, answers)

    def _applied(
        self,
        one: _Sum,
        planned: PlannedSum,
        state: State,
        certificate: SurvivorCertificate,
        opened: OpenedSeeds,
        total: NDArray[np.uint32],
    ) -> FinishedSum:
        values = decode(total, one.lanes, len(self.link.roster.entries))
        after, figures = self._terms.apply(state, planned, values)
        digest, epoch = hashlib.sha256(total.tobytes()).digest(), one.epoch
        transcript = Transcript(one.manifest, epoch.manifest, epoch.certificate, certificate, opened.hash, digest, state_hash(after))
        members = certificate.proposal.members
        self._on_event(SumFinished(planned.round, planned.kind, members))
        return FinishedSum(planned, after, figures, members, transcript, total)

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
