"""A node's part in an epoch's setup; each stage's secrets replace the former one's in the ledger before the answer leaves."""

from __future__ import annotations

from client.accepting import check_taking_part
from client.ledger_rows import StoredEpoch
from client.node import Node, Request, Result
from protocols.epoch import (
    EpochManifest,
    EpochState,
    KeysMessage,
    KeysState,
    RelayedShares,
    SharesState,
    begin_epoch,
    confirm_epoch,
    deal_shares,
)
from protocols.errors import PolicyError, Refusal, UnacceptedMembers
from protocols.pack import unpack
from protocols.plan import plan_from_canonical
from protocols.roster import Roster, members_hash
from protocols.transcript import Transcript


def announce_keys(node: Node, request: Request) -> Result:
    """Stage 1: fresh channel keys for an epoch whose members and terms this node's own roster and policy allow."""
    manifest = EpochManifest.from_bytes(request.part("manifest"))
    _check_subject(request, manifest)
    check_taking_part(node, request.run)
    if node.ledger.epoch(request.run, request.attempt) is not None:
        raise Refusal(f"epoch {request.attempt} of run {request.run} was begun before at {node.name}; give the next one another number")
    check_accepted(node, manifest, request.parts.get("members", b""))
    check_cohort(node, manifest)
    node.roster.check_valid(manifest.members, node.ledger.today())
    means = (node.identity, node.roster, node.coordinator_key, node.randomness)
    state, message = begin_epoch(manifest, *means, node.ledger.incarnation)
    _keep(node, request, manifest, "keys", state.to_bytes())
    return Result({"message": message.to_bytes()})


def share_secrets(node: Node, request: Request) -> Result:
    """Stage 2: secrets of all slots, shared and sealed."""
    stored = stored_epoch(node, request, "keys")
    keys = {name: KeysMessage.from_bytes(data) for name, data in unpack(request.part("messages")).items()}
    state, message = deal_shares(KeysState.from_bytes(stored.state), keys, node.randomness, node.identity, node.ledger.incarnation)
    _keep(node, request, EpochManifest.from_bytes(stored.manifest), "shares", state.to_bytes())
    return Result({"message": message.to_bytes()})


def confirm(node: Node, request: Request) -> Result:
    """Stage 3: all shares received and opened, channel keys erased, everything that was said signed."""
    stored = stored_epoch(node, request, "shares")
    shares = {name: RelayedShares.from_bytes(data) for name, data in unpack(request.part("messages")).items()}
    state, message = confirm_epoch(SharesState.from_bytes(stored.state), shares, node.identity, node.ledger.incarnation)
    _keep(node, request, EpochManifest.from_bytes(stored.manifest), "confirmed", state.to_bytes())
    return Result({"message": message.to_bytes()})


def stored_epoch(node: Node, request: Request, stage: str) -> StoredEpoch:
    """The epoch of a setup request (its attempt is the epoch's number), which must stand at `stage`."""
    stored = node.ledger.epoch(request.run, request.attempt)
    if stored is None or stored.stage != stage:
        raise Refusal(f"epoch {request.attempt} is not at the stage {stage} at {node.name}; begin a new epoch")
    _check_subject(request, EpochManifest.from_bytes(stored.manifest))
    return stored


def check_accepted(node: Node, manifest: EpochManifest, offered: bytes) -> None:
    """Whether every member of an epoch is on this node's own roster, with exactly the key that the epoch is bound to.

    Args:
        offered: the members as the coordinator has them, a packed `Roster`, or nothing: it says which keys differ, and decides nothing.

    Raises:
        UnacceptedMembers: the sentence names them.
    """
    own = {entry.name: entry.public_key for entry in node.roster.entries}
    unknown = tuple(name for name in manifest.members if name not in own)
    if not unknown and members_hash({name: own[name] for name in manifest.members}) == manifest.roster_hash:
        return
    theirs = {entry.name: entry.public_key for entry in Roster.from_bytes(offered).entries} if offered else {}
    others = tuple(name for name in manifest.members if name in own and theirs.get(name, own[name]) != own[name])
    what = [f"{_all(names)} {said}" for names, said in ((unknown, "is not"), (others, "has another key")) if names]
    raise UnacceptedMembers(
        unknown + others,
        f"{' and '.join(what) or 'a member has another key'} on the roster of {node.name}; `consortium client roster` shows what the "
        "coordinator offers, and `consortium client roster accept NAME` takes it over once the fingerprint was compared",
    )


def _all(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def check_cohort(node: Node, manifest: EpochManifest) -> None:
    """Raises PolicyError or Refusal unless an epoch's terms are those of this node's policy and of the run's plan."""
    canonical = node.ledger.plan(manifest.run)
    if canonical is None:
        raise Refusal(f"run {manifest.run} was never announced to {node.name}; greet it with the plan first")
    sums = plan_from_canonical(canonical).secure_aggregation
    fewest = max(node.policy.min_institutions, sums.min_institutions)
    if len(manifest.members) < fewest:
        raise PolicyError(f"the cohort has {len(manifest.members)} members; plan and policy of {node.name} ask for {fewest}")
    colluding = max(node.policy.colluding, sums.colluding)
    if manifest.colluding < colluding:
        raise PolicyError(f"the cohort allows for {manifest.colluding} colluding members; plan and policy of {node.name} for {colluding}")
    if manifest.suite != sums.suite or manifest.suite not in node.policy.suites:
        allowed = " or ".join(node.policy.suites)
        raise PolicyError(
            f"the epoch's suite is {manifest.suite}; the plan's is {sums.suite} and the policy of {node.name} allows {allowed}"
        )


def erase_used(node: Node, transcript: Transcript, over: bool) -> None:
    """Erases the secrets of the transcript's slot and of all before it, and of whole epochs before its own; all if the run is `over`."""
    run, current = transcript.manifest.run, transcript.epoch.epoch
    for number in node.ledger.epochs(run):
        stored = node.ledger.epoch(run, number)
        if stored is not None and (number < current or over):
            node.ledger.keep_epoch(run, number, StoredEpoch(stored.manifest, "over", b""))
        elif stored is not None and number == current and stored.stage == "confirmed":
            left = EpochState.from_bytes(stored.state).erased(transcript.manifest.slot + 1).to_bytes()
            node.ledger.keep_epoch(run, number, StoredEpoch(stored.manifest, stored.stage, left))


def _check_subject(request: Request, manifest: EpochManifest) -> None:
    # Round and subject are part of the key under which an answer is kept; another pair would be another setup of one epoch.
    if (request.round, request.about) != (0, "epoch") or (manifest.run, manifest.epoch) != (request.run, request.attempt):
        raise Refusal("the epoch manifest is for another run or epoch than its envelope")
    if manifest.hash != request.manifest_hash:
        raise Refusal("the epoch manifest is not the one that its envelope names; both sides must run the same version")


def _keep(node: Node, request: Request, manifest: EpochManifest, stage: str, state: bytes) -> None:
    node.ledger.keep_epoch(request.run, request.attempt, StoredEpoch(manifest.to_bytes(), stage, state))
