"""Who takes part now: greets institutions, brings those behind up to date, and sets an epoch up with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coordinator.errors import JobError
from coordinator.events import EpochCertified, Event
from coordinator.link import Link, Subject
from coordinator.publishing import bring_up_to_date
from coordinator.store import RunStore
from protocols.epoch import EpochCertificate, EpochManifest, KeysMessage, SharesMessage, certify_epoch, threshold
from protocols.errors import ConsortiumError
from protocols.pack import pack
from protocols.state import State, state_hash
from protocols.update import Terms

SLOTS = 16


@dataclass(slots=True)
class Epoch:
    """A certified epoch and the slots that are left in it."""

    manifest: EpochManifest
    certificate: EpochCertificate
    members: tuple[str, ...]
    next_slot: int = 0

    def take_slot(self) -> int:
        self.next_slot += 1
        return self.next_slot - 1

    @property
    def used_up(self) -> bool:
        return self.next_slot >= self.manifest.slots

    def without(self, missing: set[str]) -> None:
        """Survivor sets only shrink within an epoch; who dropped out returns at the next one."""
        self.members = tuple(name for name in self.members if name not in missing)


@dataclass(frozen=True, slots=True)
class Cohort:
    """Makes epochs of one run."""

    terms: Terms
    link: Link
    store: RunStore
    on_event: Callable[[Event], None]

    def begin_epoch(self, state: State, only: tuple[str, ...]) -> Epoch:
        """A certified epoch of all institutions that answer, or of exactly `only` when a set was already proposed for the sum.

        Whoever does not finish the setup is left out, and it starts again with new keys.

        Raises:
            JobError: too few institutions are left.
        """
        members = self._present(state, only)
        while True:
            self._check_size(members, only)
            epoch, members = self._set_up(members)
            if epoch is not None:
                self.on_event(EpochCertified(epoch.manifest.epoch, epoch.members, epoch.manifest.threshold, epoch.manifest.colluding))
                return epoch

    def _present(self, state: State, only: tuple[str, ...]) -> tuple[str, ...]:
        greetings = self.link.greet(pack({"plan": self.terms.plan.canonical()}))
        wanted = {name: reply.parts for name, reply in greetings.items() if not only or name in only}
        places = {name: (parts.get("state", b""), parts.get("transcript", b"")) for name, parts in wanted.items()}
        return tuple(sorted(bring_up_to_date(self.link, self.store, state, places, (state_hash(state), bytes(32)))))

    def _check_size(self, members: tuple[str, ...], only: tuple[str, ...]) -> None:
        plan = self.terms.plan
        needed = max(plan.secure_aggregation.min_institutions, plan.participation.quorum)
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(self.link.missing.items()))
        if only and set(members) != set(only):
            lost = ", ".join(sorted(set(only) - set(members)))
            raise JobError(
                f"{lost} signed for an unfinished sum and did not come back, so it cannot be opened ({reasons or 'no reason given'})"
            )
        if len(members) < needed:
            raise JobError(f"{len(members)} institutions take part and the plan needs {needed} ({reasons or 'none is connected'})")

    def _set_up(self, members: tuple[str, ...]) -> tuple[Epoch | None, tuple[str, ...]]:
        plan, number = self.terms.plan, self.store.journal.epoch + 1
        colluding = plan.secure_aggregation.colluding
        needed = threshold(len(members), colluding)
        self.store.update(epoch=number, threshold=needed)
        manifest = EpochManifest(
            self.link.run, number, self.link.roster.roster_hash, members, len(members), colluding, needed, "SA-1", SLOTS
        )  # fmt: skip
        subject = Subject(0, "epoch", number, manifest.hash)
        keys = self._stage(subject, "query.epoch_keys", dict.fromkeys(members, pack({"manifest": manifest.to_bytes()})), "message")
        if len(keys) < len(members):
            return None, tuple(sorted(keys))
        shares = self._stage(subject, "query.epoch_shares", dict.fromkeys(members, pack({"messages": pack(keys)})), "message")
        if len(shares) < len(members):
            return None, tuple(sorted(shares))
        signatures = self._stage(subject, "query.epoch_confirm", dict.fromkeys(members, pack({"messages": pack(shares)})), "signature")
        if len(signatures) < len(members):
            return None, tuple(sorted(signatures))
        return self._certified(manifest, keys, shares, signatures), members

    def _certified(
        self, manifest: EpochManifest, keys: Mapping[str, bytes], shares: Mapping[str, bytes], signatures: Mapping[str, bytes]
    ) -> Epoch:
        read_keys = {name: KeysMessage.from_bytes(data) for name, data in keys.items()}
        read_shares = {name: SharesMessage.from_bytes(data) for name, data in shares.items()}
        try:
            certificate = certify_epoch(manifest, self.link.roster, read_keys, read_shares, signatures)
        except ConsortiumError as error:
            raise JobError(f"epoch {manifest.epoch} could not be certified: {error}") from None
        return Epoch(manifest, certificate, manifest.members)

    def _stage(self, subject: Subject, message_type: str, payloads: Mapping[str, bytes], part: str) -> dict[str, bytes]:
        return {reply.institution: reply.parts[part] for reply in self.link.ask(subject, message_type, payloads) if part in reply.parts}
