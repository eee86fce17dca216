"""What a node promises once about a sum, whoever asks again in whatever form: its own input, and the one set that it signs or opens."""

from __future__ import annotations

from client.node import Node
from protocols.errors import Contradiction, PartsError
from protocols.parts import check_update_set
from protocols.secagg import SumManifest, SurvivorProposal
from protocols.state import State, inputs_hash


def promise_slot(node: Node, manifest: SumManifest) -> None:
    """Raises Contradiction if another manifest used the slot, or if the coordinator's event chain was cut or forked."""
    claim = f"slot/{manifest.run}/{manifest.epoch_hash.hex()}/{manifest.slot}"
    with node.ledger.transaction():
        node.ledger.follow_chain(manifest.chain_length, manifest.chain_head)
        node.ledger.claim(claim, manifest.hash, f"slot {manifest.slot} of this epoch was used by another manifest; take a new slot")


def promise_root(node: Node, manifest: SumManifest, root: bytes) -> None:
    """Raises Contradiction if another vector was masked for this manifest."""
    node.ledger.claim(f"root/{manifest.hash.hex()}", root, "this manifest was already answered with another vector")


def own_root(node: Node, manifest: SumManifest) -> bytes | None:
    """Root of what this node sent for a manifest."""
    return node.ledger.claimed(f"root/{manifest.hash.hex()}")


def promise_set(node: Node, manifest: SumManifest, proposal: SurvivorProposal, state: State) -> None:
    """Opening binds as signing does: a member that was never asked to sign must not open two sets either.

    Args:
        state: what the sum starts from; it holds the set of the round's pre-round.

    Raises:
        Contradiction: another set was signed for this slot, this sum, or these inputs and kind of sum, in any attempt or run;
            or an earlier set of the epoch left a member out, or the pre-round of this update did, in whatever epoch it was.
    """
    _check_pre_round(manifest, proposal, state)
    ledger, members, signed = node.ledger, _members(proposal), f"{node.name} has already signed another set for this"
    with ledger.transaction():
        ledger.claim(f"set/{manifest.hash.hex()}", proposal.to_bytes(), f"{signed} slot")
        ledger.claim(_sum_claim(manifest), members, f"{signed} sum")
        ledger.claim(f"set/{inputs_hash(state).hex()}/{manifest.sum}", members, f"{signed} state and kind of sum")
        ledger.narrow_survivors(manifest.epoch_hash, proposal.members)


def _check_pre_round(manifest: SumManifest, proposal: SurvivorProposal, state: State) -> None:
    if manifest.sum != "update":
        return
    try:
        check_update_set(state.pre_round, proposal.members)
    except PartsError as error:
        raise Contradiction(str(error)) from None


def is_promised_set(node: Node, manifest: SumManifest, proposal: SurvivorProposal) -> bool:
    """Whether a set is not another one than this node signed or opened for the sum."""
    return node.ledger.claimed(_sum_claim(manifest)) in (None, _members(proposal))


def _sum_claim(manifest: SumManifest) -> str:
    return f"set/{manifest.run}/{manifest.round}/{manifest.sum}"


def _members(proposal: SurvivorProposal) -> bytes:
    return "\n".join(proposal.members).encode()
