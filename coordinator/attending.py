"""What ends the wait of a stage under way: an institution that was revoked meanwhile, or the operator's word to stop the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from coordinator.errors import RegistryError
from coordinator.registry.records import Participant
from coordinator.registry.registry import Registry
from coordinator.registry.states import WantedState
from coordinator.waiting import stopped

# Nothing was proposed in them, or it is in the journal: what institutions sent is masked and stays so.
COLLECTING = frozenset(
    {"query.hello", "query.epoch_keys", "query.epoch_shares", "query.epoch_confirm", "train.sum", "evaluate.sum", "query.upload"}
)


@dataclass(frozen=True, slots=True)
class Attending:
    """Looks into the registry while a stage of one run waits."""

    run: str
    registry: Registry
    may_stop: Callable[[], bool]  # whether no set was proposed for the sum under way

    def __call__(self, message_type: str) -> Mapping[str, str]:
        """Who need not be waited for, and why; a registry that is away tells of nobody.

        Raises:
            RunStopped: the operator wants the run stopped, and the stage is one that can be left.
        """
        with suppress(RegistryError):
            if message_type in COLLECTING and self.registry.run(self.run).wanted is WantedState.STOPPED and self.may_stop():
                raise stopped(self.run)
            return {one.name: revoked(one) for one in self.registry.participants() if one.revoked_at is not None}
        return {}


def revoked(participant: Participant) -> str:
    """Why a revoked institution is missing."""
    return f"the operator revoked it ({participant.revoked_reason})"
