"""What a simulated run spent of its records' privacy: the promise in full, the noise, and each institution's own ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client.ledger import Ledger
from client.privacy_ledger import PrivacyLedger
from consortium.workplace import Workplace
from coordinator.registry.records import Round
from model.config import ModelConfig
from model.layout import Adaptation, AdapterConfig
from protocols.plan import Plan
from protocols.privacy.accounting import epsilon
from protocols.privacy.distributed import grid_of, shares_of
from protocols.privacy.statement import Statement, statement
from protocols.schedule import PlannedSum
from protocols.sums.private_update import dimension_of, is_distributed
from protocols.terms import Terms

NOTHING_ADDED = "No noise was added: nothing bounds what the model tells of single records (the plan has no [privacy] table)."


def privacy_of(place: Workplace, config: ModelConfig, run: str, rounds: Sequence[Round]) -> dict[str, Any] | None:
    """The report's `privacy`; None for a plan without it."""
    promise = statement(place.plan)
    if promise is None:
        return None
    terms = Terms(place.plan, Adaptation(config, AdapterConfig.from_fields(place.plan.adapter_fields), place.plan.seed))
    return {
        **asdict(promise),
        "sentence": str(promise),
        "clip": place.plan.privacy.clip if place.plan.privacy else None,
        "noise_of_sums": noise_of_sums(terms, rounds) if is_distributed(place.plan) else None,
        "institutions": {name: _spent(place, name, run, promise) for name in place.names},
    }


def noise_of_sums(terms: Terms, rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """Of each round's sum: the variance that is guaranteed whoever omits noise, and that of all who took part, in squared grid steps."""
    start, found = terms.start(), []
    for one in rounds:
        if one.number:
            grid = grid_of(terms.plan, dimension_of(terms.trained(start, PlannedSum(one.number, "update", True))))
            added = grid.share * one.institutions
            found.append(
                {"round": one.number, "guaranteed_variance": grid.variance, "added_variance": added, "grid_steps_per_1": grid.scale}
            )
    return found


def privacy_line(privacy: Mapping[str, Any] | None) -> str:
    """The summary's line: all that makes the promise one, or that there is none."""
    if privacy is None:
        return NOTHING_ADDED
    most = max(one["epsilon_spent"] for one in privacy["institutions"].values())
    spent = f"Largest epsilon in an institution's ledger: {most:.3g}."
    return f"Federated training was {privacy['sentence']}. {spent} What it is compared with was trained without noise."


def reveals(plan: Plan) -> list[str]:
    """What noise does to what an institution reveals, for `plan check`."""
    promise, terms = statement(plan), plan.privacy
    if promise is None or terms is None:
        return ["no noise is added: the trained model itself may repeat what many records have in common, and rare ones too"]
    test = "to everyone: test figures without noise; a person with records in the test split is not covered"
    if terms.mechanism == "local":
        return [f"training is {promise}", test]
    return [f"training is {promise}; each adds 1 / {shares_of(plan)} of the sum's noise", test]


def _spent(place: Workplace, name: str, run: str, promise: Statement) -> dict[str, Any]:
    ledger = Ledger.look(Path(place.settings(name).storage.home), lambda: datetime.now(UTC))
    try:
        return spent_of(ledger.privacy, run, promise.delta)
    finally:
        ledger.close()


def spent_of(ledger: PrivacyLedger, run: str, delta: float) -> dict[str, Any]:
    """Of one institution: what its ledger was charged, and by which noise."""
    accepted = ledger.accepted(run)
    spends = [spend for charge in ledger.charges() if charge.run == run for spend in charge.spends]
    return {
        "epsilon_spent": epsilon(spends, delta) if spends else 0.0,
        "sampling_rate": accepted.sampling_rate if accepted else None,
        "noise_multiplier": accepted.noise_multiplier if accepted else None,
        "label_noise": accepted.label_noise if accepted else None,
    }
