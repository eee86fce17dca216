"""A node for one rehearsal: an identity made for it and a ledger that is deleted with it; the institution's own are not opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from client.accepting import accept_plan
from client.checkpoints import Checkpoint, CheckpointOf, Checkpoints
from client.ledger import Ledger
from client.node import Node, Session, open_session
from client.work import Work
from model.progress import Progress
from protocols.identity import Identity
from protocols.plan import Plan
from protocols.policy import Policy
from protocols.roster import Roster, RosterEntry

RUN = "rehearsal"


class _Steps(Checkpoint):
    """In place of a checkpoint: nothing is kept, and each step is told."""

    def __init__(self, on_step: Callable[[int], None]) -> None:
        self._steps, self._on_step = count(1), on_step

    @property
    def begin(self) -> None:
        return None

    def after_step(self, progress: Callable[[], Progress]) -> None:
        self._on_step(next(self._steps))


class _AllSteps(Checkpoints):
    def __init__(self, home: Path, on_step: Callable[[int], None]) -> None:
        super().__init__(home, 0.0, float)
        self._on_step = on_step

    def of_run(self, run: str) -> CheckpointOf:
        return lambda _: _Steps(self._on_step)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RehearsalNode(Node):
    on_step: Callable[[int], None]

    @property
    def checkpoints(self) -> Checkpoints:
        return _AllSteps(self.ledger.home, self.on_step)


@contextmanager
def rehearsal_node(
    names: tuple[str, ...],
    policy: Policy,
    work: Work,
    clock: Callable[[], datetime],
    randomness: Callable[[int], bytes],
    scratch: Path,
    on_step: Callable[[int], None],
) -> Iterator[Node]:
    """The first of `names`, on a roster of all; its files lie in a folder below `scratch` until the end."""
    identities = [Identity.generate(name, randomness) for name in names]
    roster = Roster(tuple(RosterEntry(identity.name, identity.public_key) for identity in identities))
    coordinator = Identity.generate("coordinator", randomness)
    with TemporaryDirectory(prefix=".rehearsal-", dir=scratch) as home:
        ledger = Ledger.open(Path(home), clock)
        try:
            own = (identities[0], roster, coordinator.public_key, policy, ledger, lambda _: work, randomness)
            yield _RehearsalNode(*own, local_time=lambda: clock().astimezone(), on_step=on_step)
        finally:
            ledger.close()


def rehearsal_session(node: Node, plan: Plan) -> Session:
    """The run as it begins, accepted as the institution's node would accept it.

    Raises:
        ConsortiumError: its policy, or the plan's privacy, does not allow the run.
    """
    accept_plan(node, RUN, plan.canonical())
    return open_session(node, RUN)
