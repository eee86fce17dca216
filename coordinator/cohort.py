"""Who takes part now: greets institutions, brings those behind up to date, and sets an epoch up with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from coordinator.errors import JobError
from coordinator.events import EpochCertified, Event
from coordinator.link import Link, Reply, Subject
from coordinator.publishing import bring_up_to_date
from coordinator.store import RunStore
from protocols.epoch import (
    EpochCertificate,
    EpochManifest,
    KeysMessage,
    SharesMessage,
    certify_epoch,
    read_confirmation,
    read_keys,
    read_shares,
    setup_hash,
    threshold,
)
from protocols.pack import pack
from protocols.state import State, state_hash
from protocols.update import Terms

T = TypeVar("T")
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

    def begin_epoch(self, state: State, only: tuple[str, ...], allowed: Collection[str] | None = None) -> Epoch:
        """A certified epoch of all institutions that answer, or of exactly `only` when a set was already proposed for the sum.

        Where `allowed` says whose inputs the sum may have, nobody else is in: a member that cannot send would raise the threshold.

        Whoever does not finish the setup is left out, and it starts again with new keys.

        Raises:
            JobError: too few institutions are left.
        """
        members = self.present(state, only, allowed)
        while True:
            self._check_size(members, only)
            epoch, members = self._set_up(members)
            if epoch is not None:
                self.on_event(EpochCertified(epoch.manifest.epoch, epoch.members, epoch.manifest.threshold, epoch.manifest.colluding))
                return epoch

    def present(self, state: State, only: tuple[str, ...] = (), allowed: Collection[str] | None = None) -> tuple[str, ...]:
        """Who answers and is at the run's state, of `only` and of those that are `allowed`."""
        greetings = self.link.greet(pack({"plan": self.terms.plan.canonical()}))
        left = {name: reply.parts for name, reply in greetings.items() if allowed is None or name in allowed}
        wanted = {name: parts for name, parts in left.items() if not only or name in only}
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
        """An epoch of these members, or those with whom to begin again."""
        manifest = self._next_manifest(members)
        subject, roster = Subject(0, "epoch", manifest.epoch, manifest.hash), self.link.roster

        def keys_of(reply: Reply) -> KeysMessage:
            return read_keys(manifest, roster, reply.institution, reply.part("message"))

        def shares_of(reply: Reply) -> SharesMessage:
            return read_shares(manifest, roster, keys, reply.institution, reply.part("message"))

        def confirmation_of(reply: Reply) -> bytes:
            read_confirmation(manifest, roster, setup, reply.institution, reply.part("signature"))
            return reply.part("signature")

        keys = self._stage(subject, "query.epoch_keys", members, {"manifest": manifest.to_bytes()}, keys_of)
        if len(keys) < len(members):
            return None, self._left(members, keys)
        shares = self._stage(subject, "query.epoch_shares", members, {"messages": _packed(keys)}, shares_of)
        if len(shares) < len(members):
            return None, self._left(members, shares)
        setup = setup_hash(manifest, keys, shares)
        signatures = self._stage(subject, "query.epoch_confirm", members, {"messages": _packed(shares)}, confirmation_of)
        if len(signatures) < len(members):
            return None, self._left(members, signatures)
        return Epoch(manifest, certify_epoch(manifest, roster, keys, shares, signatures), members), members

    def _next_manifest(self, members: tuple[str, ...]) -> EpochManifest:
        number, colluding = self.store.journal.epoch + 1, self.terms.plan.secure_aggregation.colluding
        needed = threshold(len(members), colluding)
        self.store.update(epoch=number, threshold=needed)
        roster_hash = self.link.roster.roster_hash
        return EpochManifest(self.link.run, number, roster_hash, members, len(members), colluding, needed, "SA-1", SLOTS)

    def _stage(
        self, subject: Subject, message_type: str, members: tuple[str, ...], parts: Mapping[str, bytes], read: Callable[[Reply], T]
    ) -> dict[str, T]:
        return self.link.collect(subject, message_type, dict.fromkeys(members, pack(parts)), read)

    def _left(self, members: tuple[str, ...], answered: Collection[str]) -> tuple[str, ...]:
        """Who begins again: not who is silent, and not who is blamed for another's refusal.

        More accusers than may collude include an honest one, so they stay; otherwise one side lies, nobody knows which, and both go.
        """
        blamed = {name: accused for name, accused in self.link.accused.items() if accused in members and accused != name}
        proved = {name for name, count in Counter(blamed.values()).items() if count > self.terms.plan.secure_aggregation.colluding}
        stay = {name for name in members if name in answered or blamed.get(name) in proved} - set(blamed.values())
        return tuple(sorted(stay))


def _packed(messages: Mapping[str, KeysMessage] | Mapping[str, SharesMessage]) -> bytes:
    return pack({name: message.to_bytes() for name, message in messages.items()})
