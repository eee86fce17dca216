"""Institutions that withdraw: their signed word is kept, and every model version that contains their rounds says so."""

from __future__ import annotations

from coordinator.errors import RegistryError
from coordinator.registry import records
from coordinator.registry.records import ModelVersion
from coordinator.registry.registry import Registry
from protocols.acceptance import Withdrawal


def take_withdrawal(registry: Registry, withdrawal: Withdrawal, institution: str) -> tuple[ModelVersion, ...]:
    """Keeps an institution's withdrawal from a run and returns the model versions that it marks; said again, it changes nothing.

    Args:
        institution: whose connection brought it.

    Raises:
        SignatureError, Refusal: it is not that institution's own. RegistryError: there is no such institution or run.
    """
    withdrawal.check(institution, bytes.fromhex(registry.participant(institution).public_key))
    run = registry.run(withdrawal.run).run
    if run != withdrawal.run:
        raise RegistryError(f"there is no run {withdrawal.run[:80]!r}; a withdrawal names the whole id of a run")
    registry.withdraw(records.Withdrawal(institution, run, withdrawal.to_bytes().hex(), withdrawal.signature.hex()))
    return tuple(version for version in registry.models_with(institution) if version.run == run)


def withdrawn_from(registry: Registry, version: ModelVersion) -> tuple[str, ...]:
    """Institutions whose updates are in a model version and that have withdrawn from its run, sorted."""
    gone = {one.institution for one in registry.withdrawals(version.run)}
    return tuple(sorted(name for name in gone if _key(version) in map(_key, registry.models_with(name))))


def _key(version: ModelVersion) -> tuple[str, int]:
    return version.name, version.version
