"""Who takes part now: greets institutions, brings those behind up to date, and sets an epoch up with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from coordinator.answers import Answers
from coordinator.epoch_record import keep_epoch, load_epoch
from coordinator.errors import Shortage, Unaccepted
from coordinator.events import EpochCertified, Event
from coordinator.link import Link, Reply
from coordinator.publishing import bring_up_to_date
from coordinator.setup import Setup
from coordinator.store import RunStore
from protocols.epoch import EpochCertificate, EpochManifest, certify_epoch, disputed_pairs, threshold
from protocols.pack import pack
from protocols.participation import fewest_in_a_sum, members_of
from protocols.parts import update_threshold
from protocols.privacy.distributed import least_threshold
from protocols.schedule import planned_sums
from protocols.state import PreRound, State, state_hash
from protocols.sums.private_update import is_distributed
from protocols.terms import Terms

SLOTS = 16


@dataclass(slots=True)
class Epoch:
    """A certified epoch and the slots that are left in it."""

    manifest: EpochManifest
    certificate: EpochCertificate
    members: tuple[str, ...]
    of: tuple[str, ...]  # everybody, or a batch: who may be in its sums
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
    answers: Answers
    on_event: Callable[[Event], None]

    def begin_epoch(self, state: State, of: tuple[str, ...], only: tuple[str, ...], pre_round: PreRound | None = None) -> Epoch:
        """A certified epoch of those `of` the sum that answer, or of exactly `only` when a set was already proposed for the sum.

        For the update after a pre-round, its members alone are in: a member that cannot send would raise the threshold.

        Whoever does not finish the setup is left out, and it starts again with new keys.

        Raises:
            Shortage: too few institutions are left.
        """
        members = self.present(state, only, of if pre_round is None else pre_round.members)
        while True:
            self.check_size(members, of, only)
            self._check_openers(members, pre_round)
            epoch, members = self._set_up(members, of, self.threshold(members, of, pre_round))
            if epoch is not None:
                self.on_event(EpochCertified(epoch.manifest.epoch, epoch.members, epoch.manifest.threshold, epoch.manifest.colluding))
                return epoch

    def resume_epoch(self, state: State, of: tuple[str, ...], epoch_hash: bytes) -> Epoch | None:
        """The run's last epoch, with those members that no set has left out; None if it is another one, or was never certified."""
        stored = load_epoch(self.store.epoch_path(self.store.journal.epoch), self.link.members.parties)
        if stored is None or stored[0].hash != epoch_hash:
            return None
        self.present(state, allowed=of)
        records = [record for record in self.store.records if record.manifest.epoch_hash == epoch_hash]
        proposed = [set(record.proposal.members) for record in records if record.proposal is not None]
        members = tuple(name for name in stored[0].members if all(name in members for members in proposed))
        return Epoch(*stored, members, of, next_slot=1 + max((record.manifest.slot for record in records), default=-1))

    def is_last(self, epoch_hash: bytes) -> bool:
        """Whether this is the run's last epoch, which goes on, and no other one was begun since."""
        stored = load_epoch(self.store.epoch_path(self.store.journal.epoch), self.link.members.parties)
        return stored is not None and stored[0].hash == epoch_hash

    def present(self, state: State, only: tuple[str, ...] = (), allowed: Collection[str] | None = None) -> tuple[str, ...]:
        """Who answers and is at the run's state, of `only` and of those that are `allowed`."""
        greetings = self.greet()
        wanted = {name for name in greetings if (allowed is None or name in allowed) and (not only or name in only)}
        # A set that was proposed is opened with exactly its members or not at all.
        proved = {} if only else self.store.blame(self.link.members.parties).proved()
        for name in wanted & proved.keys():
            self.link.exclude(name, "query.hello", f"it takes no further part in this run: {proved[name]}")
            wanted.remove(name)
        places = {name: (reply.parts.get("state", b""), reply.parts.get("transcript", b"")) for name, reply in greetings.items()}
        return tuple(sorted(bring_up_to_date(self.link, self.store, state, places, wanted, (state_hash(state), bytes(32)))))

    def greet(self) -> dict[str, Reply]:
        """Who answers and has accepted the plan in writing; what each institution says to it is on record."""
        greetings = self.link.greet(pack({"plan": self.terms.plan.canonical()}))
        refused = {name: reason for name, reason in self.link.refused.items() if name not in greetings}
        for name, reason in self.answers.take(greetings, refused).items():
            self.link.exclude(name, "query.hello", reason)
            greetings.pop(name, None)
        return greetings

    def carries(self, accepted: Collection[str]) -> bool:
        """Whether those who accepted are enough for each of the plan's sums."""
        plan, names = self.terms.plan, [entry.name for entry in self.link.roster.entries]
        asked = {members_of(plan, names, planned.round, planned.kind) for planned in planned_sums(plan)}
        return all(len(set(of) & set(accepted)) >= max(fewest_in_a_sum(self.terms.plan), self._for_noise(of)) for of in asked)

    def check_size(self, members: tuple[str, ...], of: tuple[str, ...], only: tuple[str, ...]) -> None:
        """Raises Shortage unless these `members` are enough `of` those who may be in a sum, or all of `only`."""
        if only and set(members) != set(only):
            raise Shortage(f"{self._lost(set(only) - set(members), only)} ({self._reasons(members, only)})")
        needed = max(fewest_in_a_sum(self.terms.plan), self._for_noise(of))
        if len(members) < needed:
            lacking = {*members, *self.link.unaccepted}.union(*self.link.unaccepted.values())  # all, once people have accepted
            kind = Unaccepted if self.link.unaccepted and len(lacking & set(of)) >= needed else Shortage
            raise kind(f"{len(members)} institutions take part and the plan needs {needed} ({self._reasons(members, of)})")

    def _reasons(self, members: tuple[str, ...], of: tuple[str, ...]) -> str:
        """Why nobody else is there: who is away, and who was revoked and so is on the roster no more."""
        away = {name: "it did not finish the setup of an epoch" for name in of if name not in members} | self.link.missing
        away |= {name: reason for name, reason in self.answers.revoked().items() if name not in self.link.roster.names}
        return "; ".join(f"{name}: {reason}" for name, reason in sorted(away.items())) or f"nobody but {', '.join(of)} may take part"

    def _lost(self, lost: set[str], only: tuple[str, ...]) -> str:
        """What is to be done where some of a set that was proposed are away, of whom those that are off the roster cannot come back."""
        revoked = lost - set(self.link.roster.names)
        missing = f"{', '.join(sorted(revoked))} was revoked" if revoked else f"{', '.join(sorted(lost))} did not come back"
        anew = "stop the run, and submit the plan with another `seed`"
        advice = f"so {anew}" if revoked else f"so bring it back, or {anew}"
        return f"{missing}, and the unfinished sum is opened over {', '.join(only)} or not at all, {advice}"

    def _check_openers(self, members: tuple[str, ...], pre_round: PreRound | None) -> None:
        if pre_round is None:
            return
        needed = max(pre_round.threshold, update_threshold(pre_round, self.terms.plan.secure_aggregation.colluding))
        if len(members) < needed:
            away = ", ".join(sorted(set(pre_round.members) - set(members)))
            raise Shortage(
                f"{len(members)} of the {len(pre_round.members)} institutions of this round's pre-round take part and its update needs "
                f"{needed}; wait for {away}"
            )

    def threshold(self, members: tuple[str, ...], of: tuple[str, ...], pre_round: PreRound | None) -> int:
        """Fewest that open a sum in an epoch of these members."""
        colluding = self.terms.plan.secure_aggregation.colluding
        after_count = 0 if pre_round is None else update_threshold(pre_round, colluding)
        return max(threshold(len(members), colluding), after_count, self._for_noise(of))

    def _for_noise(self, of: tuple[str, ...]) -> int:
        """Fewest that may open a sum of some of these where its noise counts on one set; 0 for other plans."""
        return least_threshold(self.terms.plan, len(of)) if is_distributed(self.terms.plan) else 0

    def _set_up(self, members: tuple[str, ...], of: tuple[str, ...], needed: int) -> tuple[Epoch | None, tuple[str, ...]]:
        """An epoch of these members, of whom `needed` open a sum, or those with whom to begin again."""
        manifest = self._next_manifest(members, needed)
        setup = Setup(manifest, self.link)
        keys = setup.keys()
        if self.link.unaccepted:
            return None, self._accepted(members, keys)
        if len(keys) < len(members):
            return None, self._left(members, keys)
        shares = setup.shares(keys)
        if len(shares) < len(members):
            return None, self._left(members, shares)
        confirmations = setup.confirmations(keys, shares)
        if len(confirmations) < len(members):
            return None, self._left(members, confirmations)
        if disputed := disputed_pairs(manifest, confirmations):
            return None, self._undisputed(members, disputed)
        certificate = certify_epoch(manifest, keys, shares, confirmations)
        keep_epoch(self.store.epoch_path(manifest.epoch), manifest, keys, shares, confirmations)
        return Epoch(manifest, certificate, members, of), members

    def _next_manifest(self, members: tuple[str, ...], needed: int) -> EpochManifest:
        number, sums = self.store.journal.epoch + 1, self.terms.plan.secure_aggregation
        self.store.update(epoch=number, threshold=needed)
        roster = self.link.roster.hash_of(members)
        terms = EpochManifest(self.link.run, number, roster, members, len(members), sums.colluding, needed, sums.suite, SLOTS, b"")
        return terms.signed_by(self.link.identity.sign)

    def _left(self, members: tuple[str, ...], answered: Collection[str]) -> tuple[str, ...]:
        """Who begins again: not who is silent, and not who is blamed for another's refusal.

        More accusers than may collude include an honest one, so they stay; otherwise one side lies, nobody knows which, and both go.
        """
        blamed = {name: accused for name, accused in self.link.accused.items() if accused in members and accused != name}
        proved = {name for name, count in Counter(blamed.values()).items() if count > self.terms.plan.secure_aggregation.colluding}
        stay = {name for name in members if name in answered or blamed.get(name) in proved} - set(blamed.values())
        return tuple(sorted(stay))

    def _accepted(self, members: tuple[str, ...], answered: Collection[str]) -> tuple[str, ...]:
        """Who begins again when institutions do not have members of the epoch on their rosters, or with other keys.

        Whom more institutions lack than may collude waits for their acceptance; otherwise whoever lacks it is left out itself.
        """
        lacking = {name: set(lacks) & set(members) - {name} for name, lacks in self.link.unaccepted.items() if lacks}
        counts, most = Counter(name for lacks in lacking.values() for name in lacks), self.terms.plan.secure_aggregation.colluding
        waiting = {name for name, count in counts.items() if count > most}
        for name in sorted(waiting):
            lackers = ", ".join(sorted(other for other, lacks in lacking.items() if name in lacks))
            self.link.exclude(name, "query.epoch_keys", f"it waits until {lackers} accept its identity")
        stay = {name for name in members if name in answered or (name in lacking and lacking[name] and lacking[name] <= waiting)}
        return tuple(sorted(stay - waiting))

    def _undisputed(self, members: tuple[str, ...], disputed: list[tuple[str, str]]) -> tuple[str, ...]:
        """Who begins again when pairs committed to different pair seeds.

        Who differs from more members than may collude differs from an honest one; otherwise one side lies, nobody knows which, and both go.
        """
        counts, most = Counter(name for pair in disputed for name in pair), self.terms.plan.secure_aggregation.colluding
        proved = {name for name, count in counts.items() if count > most}
        left_out = proved | {name for pair in disputed if not proved & set(pair) for name in pair}
        for name in sorted(left_out):
            others = ", ".join(sorted(set().union(*(pair for pair in disputed if name in pair)) - {name}))
            self.link.exclude(name, "query.epoch_confirm", f"it and {others} committed to different pair seeds")
        return tuple(name for name in members if name not in left_out)
