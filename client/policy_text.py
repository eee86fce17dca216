"""An institution's policy in plain sentences: one for every key, with what the key does not limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from protocols.policy import Policy


def explain(policy: Policy) -> list[str]:
    """One or two sentences for every key, in the order of the file, and last what no key limits."""
    return [*(SENTENCES[key](policy) for key in Policy.model_fields), *UNLIMITED]


def _sizes(policy: Policy) -> str:
    return (
        f"Takes part in sums over at least {policy.min_institutions} institutions. Which institutions these are is for the roster to say, "
        "not for this file."
    )


def _colluding(policy: Policy) -> str:
    return (
        f"Assumes that {policy.colluding} other institutions may work together with the coordinator, and takes plans that assume at least "
        "as many. Against more than the plan assumes, nothing here protects."
    )


def _suites(policy: Policy) -> str:
    return f"Agrees keys of secure sums by {_listed(policy.suites, 'or')}. Keys of TLS are another matter."


def _plans(policy: Policy) -> str:
    if not policy.plans:
        return "Takes plans of any name. A name is no promise about what a plan does."
    return f"Takes plans named {_listed(policy.plans, 'or')} alone. What such a plan does is limited by the other keys alone."


def _targets(policy: Policy) -> str:
    if not policy.targets:
        return "Lets a plan name any part of the network as its target."
    return f"Lets a plan name {_listed(policy.targets, 'and')} as its targets. Routed experts are no target: modules limits them."


def _modules(policy: Policy) -> str:
    if not policy.modules:
        return "Lets every module be trained that a plan asks for, routed experts included."
    return (
        f"Trains modules named like {_listed(policy.modules, 'or')} alone; a plan that may choose another, such as any expert, is refused. "
        "By how much they move is for max_update_norm to say."
    )


def _fields(policy: Policy) -> str:
    if not policy.fields:
        return "Lets a plan use every field of a record that institution.toml finds for it."
    return (
        f"Lets a plan use the fields {_listed(policy.fields, 'and')} of a record, by the plan's own names. What these are here is set in "
        "institution.toml, and what is written in them is not looked at."
    )


def _approval(policy: Policy) -> str:
    if policy.approval == "none":
        return "Takes every plan that keeps to this policy without asking a person."
    return (
        "Waits with every plan until a person approves it with `consortium client approve`. Once approved, a run's rounds are not "
        "asked for one by one; `consortium client withdraw` ends it."
    )


def _hours(policy: Policy) -> str:
    hours = policy.training_hours
    if hours is None:
        return "Trains at every hour of the day."
    return (
        f"Begins to train or measure from {hours} by the clock of this machine alone. What was begun goes on past the end, and greetings, "
        "keys and the opening of sums are answered at any time."
    )


def _megabytes(policy: Policy) -> str:
    if policy.max_megabytes_per_round is None:
        return "Sends as many bytes in a round as the plan's vectors take."
    return (
        f"Sends at most {policy.max_megabytes_per_round:g} MB of vectors in a round. Keys, signatures, repeated attempts and what is "
        "received come on top."
    )


def _rounds(policy: Policy) -> str:
    return f"Takes plans of at most {policy.max_rounds} rounds. A plan that is submitted again counts anew, and needs another `seed`."


def _epsilon(policy: Policy) -> str:
    return (
        f"Spends at most epsilon {policy.max_epsilon:g} of any training record over all private runs together. A plan without [privacy] "
        "spends none of it and adds no noise: it is not limited by this key."
    )


def _delta(policy: Policy) -> str:
    return f"Means that epsilon at delta {policy.max_delta:g}, which is also the largest delta of a plan."


def _vouched(policy: Policy) -> str:
    if not policy.accept_vouched:
        return "Takes nobody and no new key onto the roster that a person here did not accept."
    return (
        "Takes whom others vouch for onto the roster without asking a person, but under no key that was given up before. Whether those "
        "others compared any words is not looked at."
    )


def _vouchers(policy: Policy) -> str:
    if not policy.accept_vouched:
        return "Counts no vouchers, as accept_vouched is false."
    return f"Asks for vouchers of {policy.vouchers} institutions on the roster. So many together can put anybody onto it."


def _norm(policy: Policy) -> str:
    return (
        f"Refuses a published step that moves one tensor by more than {policy.max_update_norm:g} in Frobenius norm. Smaller steps may "
        "still do harm; the test figures of each round show it."
    )


def _listed(names: Sequence[str], word: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


SENTENCES: Mapping[str, Callable[[Policy], str]] = {
    "min_institutions": _sizes,
    "colluding": _colluding,
    "suites": _suites,
    "plans": _plans,
    "targets": _targets,
    "modules": _modules,
    "fields": _fields,
    "approval": _approval,
    "hours": _hours,
    "max_megabytes_per_round": _megabytes,
    "max_rounds": _rounds,
    "max_epsilon": _epsilon,
    "max_delta": _delta,
    "accept_vouched": _vouched,
    "vouchers": _vouchers,
    "max_update_norm": _norm,
}
UNLIMITED = (
    "No key limits what the released model may be used for; that belongs into the plan's terms of use, which this institution signs.",
    "No key limits how long training takes or how much memory it uses; institution.toml says which hardware there is.",
)
