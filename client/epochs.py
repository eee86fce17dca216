"""A node's part in an epoch's setup; each stage's secrets replace the former one's in the ledger before the answer leaves."""

from __future__ import annotations

from client.ledger import StoredEpoch
from client.node import Node, Request, Result
from protocols.epoch import (
    EpochManifest,
    KeysMessage,
    KeysState,
    SharesMessage,
    SharesState,
    begin_epoch,
    confirm_epoch,
    deal_shares,
)
from protocols.errors import PolicyError, Refusal
from protocols.pack import unpack


def announce_keys(node: Node, request: Request) -> Result:
    """Stage 1: fresh channel keys for an epoch whose members and terms this node's own roster and policy allow."""
    manifest = EpochManifest.from_bytes(request.part("manifest"))
    _check_terms(node, request, manifest)
    state, message = begin_epoch(manifest, node.identity, node.roster, node.randomness)
    _keep(node, request, manifest, "keys", state.to_bytes())
    return Result({"message": message.to_bytes()})


def share_secrets(node: Node, request: Request) -> Result:
    """Stage 2: secrets of all slots, shared and sealed."""
    stored = stored_epoch(node, request, "keys")
    keys = {name: KeysMessage.from_bytes(data) for name, data in unpack(request.part("messages")).items()}
    state, message = deal_shares(KeysState.from_bytes(stored.state), keys, node.randomness, node.identity)
    _keep(node, request, EpochManifest.from_bytes(stored.manifest), "shares", state.to_bytes())
    return Result({"message": message.to_bytes()})


def confirm(node: Node, request: Request) -> Result:
    """Stage 3: all shares received and opened, channel keys erased, everything that was said signed."""
    stored = stored_epoch(node, request, "shares")
    shares = {name: SharesMessage.from_bytes(data) for name, data in unpack(request.part("messages")).items()}
    state, signature = confirm_epoch(SharesState.from_bytes(stored.state), shares, node.identity)
    _keep(node, request, EpochManifest.from_bytes(stored.manifest), "confirmed", state.to_bytes())
    return Result({"signature": signature})


def stored_epoch(node: Node, request: Request, stage: str) -> StoredEpoch:
    """The epoch of a setup request (its attempt is the epoch's number), which must stand at `stage`."""
    stored = node.ledger.epoch(request.run, request.attempt)
    if stored is None or stored.stage != stage:
        raise Refusal(f"epoch {request.attempt} is not at the stage {stage} at {node.name}; begin a new epoch")
    return stored


def _check_terms(node: Node, request: Request, manifest: EpochManifest) -> None:
    if (manifest.run, manifest.epoch) != (request.run, request.attempt):
        raise Refusal("the epoch manifest is for another run or epoch than its envelope")
    if manifest.roster_hash != node.roster.roster_hash:
        raise Refusal(f"the roster of {node.name} differs from the coordinator's; compare names and keys in roster.toml with the operator")
    if len(manifest.members) < node.policy.min_institutions:
        raise PolicyError(
            f"the cohort has {len(manifest.members)} members and the policy of {node.name} asks for {node.policy.min_institutions}"
        )
    if manifest.colluding < node.policy.colluding:
        raise PolicyError(
            f"the cohort allows for {manifest.colluding} colluding members and the policy of {node.name} for {node.policy.colluding}"
        )


def _keep(node: Node, request: Request, manifest: EpochManifest, stage: str, state: bytes) -> None:
    node.ledger.keep_epoch(request.run, request.attempt, StoredEpoch(manifest.to_bytes(), stage, state))
