"""What a node promises once about a sum, whoever asks again in whatever form: its own input, and the one set that it signs or opens."""

from __future__ import annotations

from client.ledger import Ledger
from client.node import Node, Request
from protocols.chain import ChainHead
from protocols.epoch import EpochManifest
from protocols.errors import AnotherSet, Contradiction, PartsError, Refusal
from protocols.parts import Survivors, check_update_set
from protocols.schedule import BOUND_SUMS
from protocols.secagg import SumManifest, SurvivorProposal
from protocols.state import State, inputs_hash
from protocols.transcript import Transcript


def check_promises_known(node: Node, run: str) -> None:
    """Raises Refusal while this institution may have promised what its restored ledger does not hold."""
    if node.ledger.returning.is_only_followed(run):
        raise Refusal(
            f"the ledger of {node.name} was restored: it follows run {run} and sends nothing until an update was finished without it in an "
            "epoch since then; the others go on, and `consortium client rejoin` takes part at once in a run that was submitted later"
        )


def promise_slot(node: Node, request: Request, manifest: SumManifest) -> None:
    """Binds the slot to the manifest, and the coordinator to the event chain that the manifest names.

    The request's `chain` holds the digests of its last events; they must lead there from the head that this node saw last.

    Raises:
        Contradiction: another manifest used the slot, or the event chain was cut or forked.
    """
    claim = f"slot/{manifest.run}/{manifest.epoch_hash.hex()}/{manifest.slot}"
    with node.ledger.transaction():
        node.ledger.heads.follow(_head(manifest), request.part("chain"), request.signed)
        sentence = f"slot {manifest.slot} of this epoch was used by another manifest; take a new slot"
        node.ledger.claim(claim, manifest.hash, sentence, request.signed)


def promise_root(node: Node, manifest: SumManifest, root: bytes) -> None:
    """Raises Contradiction if another vector was masked for this manifest. What a private update costs is spent from here on."""
    with node.ledger.transaction():
        node.ledger.claim(f"root/{manifest.hash.hex()}", root, "this manifest was already answered with another vector")
        if manifest.sum != "evaluate":
            node.ledger.privacy.spend(manifest.run, manifest.round)


def own_root(node: Node, manifest: SumManifest) -> bytes | None:
    """Root of what this node sent for a manifest."""
    return claimed_root(node.ledger, manifest)


def claimed_root(ledger: Ledger, manifest: SumManifest) -> bytes | None:
    """Root of what the ledger's institution sent for a manifest."""
    return ledger.claimed(f"root/{manifest.hash.hex()}")


_ELSEWHERE = ", here or in an earlier run; a plan with another seed begins from another state"


def promise_set(
    node: Node, request: Request, manifest: SumManifest, proposal: SurvivorProposal, state: State, epoch: EpochManifest
) -> None:
    """Opening binds as signing does: a member that was never asked to sign must not open two sets either.

    Args:
        state: what the sum starts from; it holds the set of the round's pre-round.
        epoch: the terms of the manifest's epoch.

    Raises:
        AnotherSet: another set was signed for this sum, or these inputs and kind of sum, in any attempt or run.
        Contradiction: another set was signed for this slot, or an earlier set of the epoch left a member out, or the pre-round of this
            update did, in whatever epoch it was; or the epoch's threshold is too small for the update after a pre-round.
    """
    ledger, signed = node.ledger, f"{node.name} has already signed another set for this"
    _check_pre_round(manifest, proposal, state, epoch)
    with ledger.transaction():
        ledger.claim(f"set/{manifest.hash.hex()}", proposal.to_bytes(), f"{signed} slot", request.signed)
        _bind(ledger, _sum_claim(manifest), proposal, f"{signed} sum", request)
        _bind(ledger, _inputs_claim(manifest, state), proposal, f"{signed} state and kind of sum{_ELSEWHERE}", request)
        ledger.narrow_survivors(manifest.epoch_hash, proposal.members)


def _bind(ledger: Ledger, claim: str, proposal: SurvivorProposal, sentence: str, request: Request) -> None:
    try:
        ledger.claim(claim, _members(proposal), sentence, request.signed)
    except Contradiction as bound:
        signed = (ledger.claimed(claim) or b"").decode().split("\n")
        raise AnotherSet(sentence, bound.earlier, tuple(signed)) from None


def promise_transcript(node: Node, request: Request, transcript: Transcript) -> None:
    """Raises Contradiction if the coordinator was bound to another transcript of the sum: it may not try what will not be looked at."""
    manifest = transcript.manifest
    claim, sentence = f"transcript/{manifest.run}/{manifest.round}/{manifest.sum}", "another transcript of this sum was announced before"
    node.ledger.claim(claim, transcript.hash, sentence, request.signed)


def is_promised_set(node: Node, manifest: SumManifest, proposal: SurvivorProposal) -> bool:
    """Whether a set is not another one than this node signed or opened for the sum."""
    return is_claimed_set(node.ledger, manifest, proposal)


def is_claimed_set(ledger: Ledger, manifest: SumManifest, proposal: SurvivorProposal) -> bool:
    """Whether a set is not another one than the ledger's institution signed or opened for the sum."""
    return ledger.claimed(_sum_claim(manifest)) in (None, _members(proposal))


def countersign_head(node: Node, manifest: SumManifest) -> None:
    """Notes which head of the event chain a survivor signature covers; Contradiction if this node does not follow it."""
    node.ledger.heads.countersign(_head(manifest))


def _head(manifest: SumManifest) -> ChainHead:
    return ChainHead(manifest.chain_length, manifest.chain_head)


def _check_pre_round(manifest: SumManifest, proposal: SurvivorProposal, state: State, epoch: EpochManifest) -> None:
    if manifest.sum not in BOUND_SUMS:
        return
    try:
        check_update_set(state.pre_round, Survivors(proposal.members, epoch.threshold, epoch.colluding))
    except PartsError as error:
        raise Contradiction(str(error)) from None


def _sum_claim(manifest: SumManifest) -> str:
    return f"set/{manifest.run}/{manifest.round}/{manifest.sum}"


def _inputs_claim(manifest: SumManifest, state: State) -> str:
    return f"set/{inputs_hash(state).hex()}/{manifest.sum}"


def _members(proposal: SurvivorProposal) -> bytes:
    return "\n".join(proposal.members).encode()
