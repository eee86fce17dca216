"""Institutions that withdraw: their signed word is kept, and every model version that contains their rounds says so."""

from __future__ import annotations

from coordinator.registry import records
from coordinator.registry.records import ModelVersion
from coordinator.registry.registry import Registry
from protocols.acceptance import Withdrawal


def take_withdrawal(registry: Registry, withdrawal: Withdrawal, institution: str) -> tuple[ModelVersion, ...]:
    """Keeps an institution's withdrawal and returns the model versions that it marks.

    Args:
        institution: whose connection brought it.

    Raises:
        SignatureError, Refusal: it is not that institution's own. RegistryError: there is no such institution or run.
    """
    participant = registry.participant(institution)
    withdrawal.check(institution, bytes.fromhex(participant.public_key))
    run = registry.run(withdrawal.run).run if withdrawal.run else None
    registry.withdraw(records.Withdrawal(institution, run, withdrawal.to_bytes().hex(), withdrawal.signature.hex()))
    return tuple(version for version in registry.models_with(institution) if institution in withdrawn_from(registry, version))


def withdrawn_from(registry: Registry, version: ModelVersion) -> tuple[str, ...]:
    """Institutions whose updates are in a model version and that withdrew from its run since, sorted.

    A withdrawal from all runs is one from those that were submitted before it.
    """
    submitted = registry.run(version.run).created_at
    gone = {one.institution for one in registry.withdrawals(version.run) if one.run or one.at is None or one.at >= submitted}
    return tuple(sorted(name for name in gone if _key(version) in map(_key, registry.models_with(name))))


def _key(version: ModelVersion) -> tuple[str, int]:
    return version.name, version.version
