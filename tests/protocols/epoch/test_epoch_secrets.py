"""What is left after the setup: seeds of one slot each, known to their pair alone, and no key that gives any other."""

from __future__ import annotations

import itertools

from tests.protocols.secagg.cohort import MEMBERS, Cohort


def test_a_pair_shares_its_seeds_and_no_two_slots_or_pairs_share_any() -> None:
    states, _ = Cohort().certified()
    pairs = list(itertools.combinations(MEMBERS, 2))
    assert all(states[one].pair_seeds[two] == states[two].pair_seeds[one] for one, two in pairs)
    seeds = [seed for one, two in pairs for seed in states[one].pair_seeds[two]]
    seeds += [seed for state in states.values() for seed in state.self_seeds]
    assert len(set(seeds)) == len(seeds) == 2 * (len(pairs) + len(MEMBERS))


def test_channel_keys_and_recovery_secrets_are_gone_after_the_setup() -> None:
    cohort = Cohort()
    states, _ = cohort.certified()
    for name, (before, _) in cohort.dealt.items():
        left, keys = states[name].to_bytes(), cohort.begun[name][0]
        gone = [keys.seed, keys.mlkem_seed, *before.agreed.values(), *before.kem_secrets.values(), *before.recovery_secrets]
        assert keys.seed not in before.to_bytes(), name
        assert not any(secret in left for secret in gone), name


def test_no_secret_is_sent_in_clear() -> None:
    cohort = Cohort()
    sent = b"".join(confirmation.to_bytes() for _, confirmation in cohort.confirmed().values())
    sent += b"".join(message.to_bytes() for message in [*cohort.keys.values(), *cohort.shares.values()])
    for state, _ in cohort.confirmed().values():
        keys, before = cohort.begun[state.sender][0], cohort.dealt[state.sender][0]
        secrets = [keys.seed, keys.mlkem_seed, *before.agreed.values(), *before.kem_secrets.values(), *before.recovery_secrets]
        secrets += before.self_seeds
        secrets += [seed for seeds in state.pair_seeds.values() for seed in seeds] + [*state.held.values()]
        assert not any(secret in sent for secret in secrets), state.sender
