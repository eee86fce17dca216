"""What must hold whatever the coordinator and those who collude with it try (PROTOCOL, section 6), read off what they saw.

I-8 is `test_view_equality.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from itertools import product

import numpy as np

from protocols.epoch import EpochState, KeysState, SharesState
from protocols.pack import unpack
from protocols.privacy.accounting import epsilon
from protocols.secagg import SumManifest, read_total
from protocols.stages import ANSWERED_ONCE
from protocols.transcript import Transcript
from tests.federation.attacks.adversary import Adversary, Seen
from tests.federation.attacks.canaries import CANARIES


def check_invariants(adversary: Adversary) -> None:
    """Raises AssertionError naming the first that is broken."""
    for invariant in INVARIANTS:
        invariant(adversary)


def never_both_secrets(adversary: Adversary) -> None:
    """I-1: never t shares of both self seed and recovery secret of one honest institution and slot."""
    for epoch, terms in adversary.epochs().items():
        for dealer in set(terms.members) - adversary.colluders:
            for slot in {one.manifest.slot for one in adversary.answered("query.unmask") if one.manifest.epoch_hash == epoch}:
                selves, recoveries = adversary.shares(epoch, slot, dealer)
                both = min(len(selves), len(recoveries)) >= terms.threshold
                assert not both, f"I-1: {len(selves)} and {len(recoveries)} shares of both secrets of {dealer} in slot {slot}"


def slot_is_used_once(adversary: Adversary) -> None:
    """I-2: an honest institution's slot has at most one manifest, upload, set and opening."""
    uploads, sets = _honest(adversary, "train.sum", "evaluate.sum"), _honest(adversary, "query.survivors", "query.unmask")
    _once(uploads, _slot, lambda one: one.manifest.hash, "I-2: two manifests in the slot of")
    _once(uploads, _slot, lambda one: one.said["root"], "I-2: two uploads in the slot of")
    _once(sets, _slot, lambda one: one.set_hash, "I-2: two sets in the slot of")


def state_has_one_set(adversary: Adversary) -> None:
    """I-3: an honest institution signs or opens at most one set for a state and kind of sum, in any attempt or run."""

    def state(one: Seen) -> Hashable:
        return one.institution, one.manifest.state_hash, one.manifest.sum

    _once(_honest(adversary, "query.survivors", "query.unmask"), state, lambda one: one.members, "I-3: two sets of one state by")


def enough_honest_inputs(adversary: Adversary) -> None:
    """I-4: honest inputs in an opened sum >= max(2, t - c)."""
    epochs = adversary.epochs()
    for one in _honest(adversary, "query.unmask"):
        terms, inside = epochs[one.manifest.epoch_hash], set(one.members) - adversary.colluders
        needed = max(2, terms.threshold - terms.colluding)
        assert len(inside) >= needed, f"I-4: {one.institution} opened a sum with {len(inside)} honest inputs and {needed} are needed"


def lanes_have_two_contributors(adversary: Adversary) -> None:
    """I-5: where experts are trained, no lane of a total, or of the difference of two of one state, has one honest contributor."""
    trains_experts = adversary.federation.plan.trainable.experts != "none"
    opened = [one for one in _opened(adversary) if trains_experts and one[0].sum == "update"]
    for (one, members), (other, others) in product(opened, repeat=2):
        rest = set() if one == other else set(others)  # the total itself, or less a smaller one
        if one.state_hash == other.state_hash and rest < set(members):
            honest = [adversary.inputs[name, one.hash] for name in set(members) - rest - adversary.colluders]
            alone = np.count_nonzero(honest, axis=0) == 1
            # A small number may be rounded to zero, so that a few lanes say nothing.
            assert alone.mean() < 0.05, f"I-5: {alone.sum()} lanes of a total or difference come from one honest institution alone"


def repeated_request_gets_identical_bytes(adversary: Adversary) -> None:
    """I-6: whatever is answered once is answered with the same bytes whenever it is asked again."""

    def request(one: Seen) -> Hashable:
        return one.institution, one.request.envelope

    def answer(one: Seen) -> Hashable:
        return one.answer.envelope

    once = _honest(adversary, *ANSWERED_ONCE)
    _once(once, request, answer, "I-6: two answers to one request by")
    with_arrays = [one for one in once if one.answer.arrays]  # after the sum is over, only the envelope is left
    _once(with_arrays, request, lambda one: one.answer.arrays["chunks"].tobytes(), "I-6: two uploads for one request by")


def ledger_covers_what_left(adversary: Adversary) -> None:
    """I-7: an honest institution's spent epsilon is at least what an accountant says of every private update that left it."""
    left = {(one.institution, one.asked.run, one.manifest.round) for one in _honest(adversary, "train.sum") if one.manifest.sum == "update"}
    privacy = adversary.federation.plan.privacy
    for name, run in {(name, run) for name, run, _ in left if privacy is not None}:
        ledger = adversary.federation.nodes[name].ledger.privacy
        accepted = ledger.accepted(run)
        assert accepted and privacy, f"I-7: {name} takes part in a private run without having accepted its cost"
        rounds = {0} & set(accepted.spends) | {number for who, which, number in left if (who, which) == (name, run)}
        due = epsilon([spend for number in rounds for spend in accepted.spends[number]], privacy.delta)
        spent = [spend for charge in ledger.charges() if (charge.run, charge.state) == (run, "spent") for spend in charge.spends]
        assert epsilon(spent, privacy.delta) >= due, f"I-7: {name} let go what its ledger does not count"


def canaries_are_nowhere(adversary: Adversary) -> None:
    """I-9: no record, count, loss, key or unopened seed of an honest institution in any captured byte, file, row or log."""
    captured = list(adversary.captured())
    everything = b"\0".join(data for _, data in captured)
    for what, canary in (CANARIES | _keys(adversary) | _plain_vectors(adversary)).items():
        places = [place for place, data in captured if canary in data] if canary in everything else []
        assert not places, f"I-9: {what} is in {', '.join(places)}"


def total_is_the_plain_sum(adversary: Adversary) -> None:
    """I-10: every total that an honest institution adopted is the sum of its survivors' plain vectors."""
    for one in _honest(adversary, "query.total"):
        transcript = Transcript.from_bytes(unpack(one.asked.payload)["transcript"])
        manifest, members = transcript.manifest, transcript.certificate.proposal.members
        if any((name, manifest.hash) not in adversary.inputs for name in adversary.colluders & set(members)):
            continue  # what a colluder put in is its own to say
        plain = np.asarray(np.sum([adversary.inputs[name, manifest.hash] for name in members], 0, dtype=np.uint32))
        manifest.lanes.reduce(plain)
        total = read_total(manifest.lanes, one.request.arrays["total"].tobytes())
        assert np.array_equal(total, plain), f"I-10: {one.institution} adopted another total than the plain sum"


INVARIANTS: tuple[Callable[[Adversary], None], ...] = (
    never_both_secrets,
    slot_is_used_once,
    state_has_one_set,
    enough_honest_inputs,
    lanes_have_two_contributors,
    repeated_request_gets_identical_bytes,
    ledger_covers_what_left,
    canaries_are_nowhere,
    total_is_the_plain_sum,
)


def _honest(adversary: Adversary, *message_types: str) -> list[Seen]:
    return [one for one in adversary.answered(*message_types) if one.institution not in adversary.colluders]


def _slot(one: Seen) -> Hashable:
    return one.institution, one.manifest.epoch_hash, one.manifest.slot


def _once(seen: Iterable[Seen], key: Callable[[Seen], Hashable], value: Callable[[Seen], Hashable], broken: str) -> None:
    values: dict[Hashable, set[Hashable]] = defaultdict(set)
    for one in seen:
        values[key(one)].add(value(one))
        assert len(values[key(one)]) == 1, f"{broken} {one.institution}"


def _opened(adversary: Adversary) -> set[tuple[SumManifest, tuple[str, ...]]]:
    opened = {(one.manifest.hash, one.members): one.manifest for one in _honest(adversary, "query.unmask")}
    return {(manifest, members) for (_, members), manifest in opened.items()}


def _plain_vectors(adversary: Adversary) -> dict[str, bytes]:
    # A few small integers may stand anywhere.
    honest = [(n, vector) for (n, _), vector in adversary.inputs.items() if n not in adversary.colluders and len(np.unique(vector)) > 4]
    return {f"the plain vector {number} of {name}": vector.tobytes() for number, (name, vector) in enumerate(honest)}


def _keys(adversary: Adversary) -> dict[str, bytes]:
    """Keys and seeds that honest institutions alone hold, by what they are; those that a sum opened are left out."""
    known = _known_seeds(adversary)
    found: dict[str, bytes] = {}
    for name in adversary.honest:
        found[f"the identity key of {name}"] = adversary.federation.nodes[name].identity._key.private_bytes_raw()
    for (name, _, epoch, _), state in adversary.secrets.items():
        if name not in adversary.colluders:
            found |= {f"{what} of {name} in epoch {epoch}": value for what, value in _secrets(adversary, state) if value not in known}
    return found


def _secrets(adversary: Adversary, state: object) -> Iterable[tuple[str, bytes]]:
    if isinstance(state, KeysState):
        yield from (("X25519 key", state.seed), ("ML-KEM-768 key", state.mlkem_seed))
    if isinstance(state, SharesState):
        yield from ((f"recovery secret {slot}", secret) for slot, secret in enumerate(state.recovery_secrets))
        yield from ((f"channel with {name}", secret) for name, secret in state.agreed.items() if name not in adversary.colluders)
    if isinstance(state, EpochState):
        yield from ((f"self seed {slot}", seed) for slot, seed in enumerate(state.self_seeds))
        pairs = ((name, slot, seed) for name, seeds in state.pair_seeds.items() for slot, seed in enumerate(seeds))
        yield from ((f"pair seed {slot} with {name}", seed) for name, slot, seed in pairs if name not in adversary.colluders)


def _known_seeds(adversary: Adversary) -> set[bytes]:
    """Empty values, and seeds that followed from a set that was opened."""
    known = {b""}
    states = {(name, state.manifest.hash): state for (name, *_), state in adversary.secrets.items() if isinstance(state, EpochState)}
    for one in _honest(adversary, "query.unmask"):
        epoch, slot = one.manifest.epoch_hash, one.manifest.slot
        for name in adversary.epochs()[epoch].members:
            state = states[name, epoch]
            opened = [state.self_seeds] if name in one.members else state.pair_seeds.values()
            known |= {seeds[slot] for seeds in opened}
    return known
