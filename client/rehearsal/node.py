"""A node for one rehearsal: an identity made for it and a ledger that is deleted with it; the institution's own are not opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from client.accepting import accept_plan
from client.ledger import Ledger
from client.node import Node, Session, open_session
from client.work import Work
from protocols.identity import Identity
from protocols.plan import Plan
from protocols.policy import Policy
from protocols.roster import Roster, RosterEntry

RUN = "rehearsal"


@contextmanager
def rehearsal_node(
    names: tuple[str, ...], policy: Policy, work: Work, clock: Callable[[], datetime], randomness: Callable[[int], bytes], scratch: Path
) -> Iterator[Node]:
    """The first of `names`, on a roster of all; its files lie in a folder below `scratch` until the end."""
    identities = [Identity.generate(name, randomness) for name in names]
    roster = Roster(tuple(RosterEntry(identity.name, identity.public_key) for identity in identities))
    coordinator = Identity.generate("coordinator", randomness)
    with TemporaryDirectory(prefix=".rehearsal-", dir=scratch) as home:
        ledger = Ledger.open(Path(home), clock)
        try:
            own = (identities[0], roster, coordinator.public_key, policy, ledger, lambda _: work, randomness)
            yield Node(*own, local_time=lambda: clock().astimezone())
        finally:
            ledger.close()


def rehearsal_session(node: Node, plan: Plan) -> Session:
    """The run as it begins, accepted as the institution's node would accept it.

    Raises:
        ConsortiumError: its policy, or the plan's privacy, does not allow the run.
    """
    accept_plan(node, RUN, plan.canonical())
    return open_session(node, RUN)
