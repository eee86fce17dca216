"""On which terms an institution takes part in a private run: its own sampling rate, noise and budget, before it accepts the plan."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from client.privacy_ledger import BEFORE_ROUNDS, PrivacyLedger, PrivateRun
from client.work import Work
from protocols.errors import PolicyError, PrivacyError
from protocols.plan import Plan, Privacy
from protocols.policy import Policy
from protocols.privacy.accounting import AnySpend, Release, Spend, check_delta, epsilon
from protocols.privacy.calibration import calibrate
from protocols.privacy.distributed import round_spend
from protocols.schedule import PlannedSum
from protocols.sums.private_update import dimension_of, is_distributed
from protocols.terms import Terms

if TYPE_CHECKING:
    from client.node import Node

LABEL_SHARE = 0.1  # of the run's epsilon that the noised counts of labels may cost, each alone
logger = logging.getLogger("consortium.client")


def accept_private(node: Node, run: str, plan: Plan) -> PrivateRun | None:
    """Decides on which terms this institution takes part; None without [privacy], and for a run whose terms are kept already.

    Raises:
        PolicyError: the run would cost more than plan or policy allow. The sentence travels, so it says nothing of the records; the
            institution's own log does.
    """
    ledger = node.ledger.privacy
    if plan.privacy is None or ledger.accepted(run) is not None:
        return None
    work = node.open_work(plan)
    units = units_of(work, plan, node.name)
    _check_budget_delta(node, units)
    try:
        accepted = private_run(plan, Terms(plan, work.adaptation), units)
    except PrivacyError as error:
        logger.error("plan %s is refused: %s", plan.name, error)
        raise PolicyError(f"{node.name} cannot keep the plan's [privacy] on its records; its own log says why") from None
    check_budget(node.policy, ledger, run, accepted.whole, node.name)
    return accepted


def units_of(work: Work, plan: Plan, name: str) -> int:
    """Records, or groups, that the institution trains on, after a look at the plan's delta.

    Raises:
        PolicyError: delta would allow one of them to be published, or nothing says which records make a group.
    """
    terms = _privacy(plan)
    units = work.private.units
    if units == 0:
        raise PolicyError(
            f"privacy.unit is {terms.unit} and {name} knows no groups; name their column as records.group of institution.toml"
        )
    try:
        check_delta(terms.delta, units)
    except PrivacyError as error:
        logger.error("plan %s is refused: %s", plan.name, error)
        raise PolicyError(
            f"privacy.delta {terms.delta:g} is not below 1 / N of the {terms.unit}s at {name}; lower it in a new plan"
        ) from None
    return units


def private_run(plan: Plan, terms: Terms, units: int) -> PrivateRun:
    """The noise that keeps the plan's promise for an institution of so many units.

    Raises:
        PrivacyError: none does, or under the distributed mechanism the plan's own is too small.
    """
    asked, rate = _privacy(plan), sampling_rate(plan, units)
    before = label_releases(plan)
    label_noise = before[0].noise_multiplier if before else None
    if is_distributed(plan):
        noise, rounds = _public_noise(plan, terms, rate, before)
    else:
        noise = calibrate(asked.epsilon, asked.delta, rate, plan.rounds * plan.training.local_steps, before)
        rounds = {number: Spend(rate, noise, plan.training.local_steps) for number in range(1, plan.rounds + 1)}
    spends: dict[int, tuple[AnySpend, ...]] = {number: (spend,) for number, spend in rounds.items()}
    return PrivateRun(rate, noise, label_noise, spends | ({BEFORE_ROUNDS: tuple(before)} if before else {}))


def sampling_rate(plan: Plan, units: int) -> float:
    """Probability that a unit takes part in a step."""
    return min(1.0, plan.training.batch_size / units)


def label_releases(plan: Plan) -> list[Release]:
    """What the noised counts of labels cost, once; empty where the plan needs none."""
    asked = _privacy(plan)
    return [Release(calibrate(LABEL_SHARE * asked.epsilon, asked.delta, 1.0, 1))] if plan.training.label_prior != "none" else []


def check_budget(policy: Policy, ledger: PrivacyLedger, run: str, further: Sequence[AnySpend], name: str) -> None:
    """Raises PolicyError if `further` spends of a run, with all of other runs, exceed the policy's epsilon at its delta."""
    others = [spend for charge in ledger.charges() if charge.run != run for spend in charge.spends]
    if others and epsilon([*others, *further], policy.max_delta) > policy.max_epsilon:
        raise PolicyError(
            f"with earlier runs this one would spend more than epsilon {policy.max_epsilon:g} at delta {policy.max_delta:g}, which is what "
            f"the policy of {name} allows in all; raise max_epsilon if the institution agrees"
        )


def _check_budget_delta(node: Node, units: int) -> None:
    try:
        check_delta(node.policy.max_delta, units)
    except PrivacyError as error:
        logger.error("max_delta of policy.toml: %s", error)
        raise PolicyError(
            f"max_epsilon of {node.name} is meant at a max_delta that is not below 1 / N of its own; it lowers max_delta in its policy"
        ) from None


def _public_noise(plan: Plan, terms: Terms, rate: float, before: Sequence[AnySpend]) -> tuple[float, Mapping[int, AnySpend]]:
    """The plan's own noise, if it is enough for this sampling rate."""
    asked, start = _privacy(plan), terms.start()
    sizes = {n: dimension_of(terms.trained(start, PlannedSum(n, "update", True))) for n in range(1, plan.rounds + 1)}
    by_size = {size: round_spend(plan, size, rate) for size in set(sizes.values())}
    rounds = {number: by_size[size] for number, size in sizes.items()}
    cost = epsilon([*rounds.values(), *before], asked.delta)
    if cost > asked.epsilon or asked.noise_multiplier is None:
        raise PrivacyError(
            f"with noise_multiplier {asked.noise_multiplier} and sampling rate {rate:.4g} the run costs epsilon {cost:.3g} and the plan "
            f"promises {asked.epsilon:g}; {_enough(plan, rate, before)} would do"
        )
    return asked.noise_multiplier, rounds


def _enough(plan: Plan, rate: float, before: Sequence[AnySpend]) -> str:
    """Noise on fine grids is nearly Gaussian; a tenth more covers the looser accounting."""
    asked = _privacy(plan)
    return f"a noise_multiplier of about {1.1 * calibrate(asked.epsilon, asked.delta, rate, plan.rounds, before):.2g}"


def _privacy(plan: Plan) -> Privacy:
    if plan.privacy is None:
        raise PrivacyError(f"plan {plan.name} has no [privacy] table")
    return plan.privacy
