"""What an institution has spent over all private runs, for its people and their programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.ledger import Ledger
from client.privacy_ledger import Charge
from protocols.policy import Policy, load_policy
from protocols.privacy.accounting import AnySpend, epsilon, to_dict


@dataclass(frozen=True, slots=True)
class Spending:
    """All charges, reserved ones too, composed at the policy's delta."""

    charges: Sequence[Charge]
    by_run: Mapping[str, float]  # run -> epsilon
    epsilon: float
    policy: Policy

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "epsilon_spent": self.epsilon,
            "delta": self.policy.max_delta,
            "max_epsilon": self.policy.max_epsilon,
            "runs": dict(self.by_run),
            "charges": [
                {"run": one.run, "round": one.round, "unit": one.unit, "state": one.state, "spends": [to_dict(s) for s in one.spends]}
                for one in self.charges
            ],
        }

    def lines(self) -> list[str]:
        """For people; the epsilon of several runs is less than the sum of theirs. Nothing where none is spent."""
        if not self.charges:
            return []
        at = f"at delta {self.policy.max_delta:g}"
        total = f"Epsilon spent over all runs: {self.epsilon:.4g} {at}; the policy allows {self.policy.max_epsilon:g}."
        return [total, *(f"  {run} (unit: {self._unit(run)}): epsilon {spent:.4g} {at}" for run, spent in self.by_run.items())]

    def _unit(self, run: str) -> str:
        return next(one.unit for one in self.charges if one.run == run)


def spending(ledger: Ledger, policy: Policy) -> Spending:
    """Reads all charges and composes them.

    Raises:
        LedgerError: a charge is not readable.
    """
    charges = ledger.privacy.charges()
    runs: defaultdict[str, list[AnySpend]] = defaultdict(list)
    for one in charges:
        runs[one.run] += one.spends
    by_run = {run: epsilon(spends, policy.max_delta) for run, spends in runs.items()}
    total = by_run[charges[0].run] if len(by_run) == 1 else epsilon([s for one in charges for s in one.spends], policy.max_delta)
    return Spending(charges, by_run, total if charges else 0.0, policy)


def policy_of(folder: Path) -> Policy:
    """The policy of the institution in `folder`."""
    return load_policy(folder / "policy.toml")
