"""An audit of an institution's own ledger: what it proves of the runs that it took part in, and what it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from client.errors import LedgerError
from client.institution import Membership
from client.ledger import FinishedSum, Ledger
from client.promises import claimed_root, is_claimed_set
from client.vectors import TRAINING
from protocols.audit import Audit
from protocols.chain import check_extension
from protocols.epoch import EpochState
from protocols.errors import ChainError, ProtocolError
from protocols.plan import plan_from_canonical
from protocols.schedule import planned_sums
from protocols.state import load_state, state_hash
from protocols.transcript import Transcript, check_follows, verify_transcript

NOT_PROVED = (
    "Whether others were shown the same events: `consortium coordinator verify --roster` compares a registry with what they signed.",
    "Whether every chunk of the totals is the sum of what was sent: this institution looked at those that it drew.",
    "Whether the whole folder was put back to an earlier time together with its incarnation file.",
)


def verify_ledger(ledger: Ledger, membership: Membership) -> Audit:
    """Checks every transcript that the ledger keeps, its heads of the event chain, and that what is over was erased.

    Args:
        ledger: opened, so that its incarnation was checked already.
        membership: the institution's own roster and name.
    """
    audit = Audit("this ledger", unproved=list(NOT_PROVED))
    audit.proved.append(f"The ledger is incarnation {ledger.incarnation}, as the file beside it says.")
    kept: list[Transcript] = []
    for run in dict.fromkeys(finished.run for finished in ledger.finished_sums()):
        audit.attempt(_transcripts, ledger, membership, run, audit, kept)
        audit.attempt(_state, ledger, run)
        audit.attempt(_erased, ledger, run)
    audit.attempt(_heads, ledger, membership.name, kept)
    return audit


def _transcripts(ledger: Ledger, membership: Membership, run: str, audit: Audit, kept: list[Transcript]) -> str:
    """Adds the run's transcripts to `kept`, and to the audit's gaps what lies between them unseen."""
    former: Transcript | None = None
    absent, unseen, before, place = [], [], len(kept), -1
    for finished in ledger.finished_sums(run):
        name, one = f"{finished.round}-{finished.sum}", _transcript(ledger, finished)
        preceding, place = place, _place(ledger, finished)
        known = former if place == preceding + 1 else None
        if one is None:
            absent.append(name)
        else:
            _check(membership, one, known, first=place == 0)
            _check_own_part(ledger, membership.name, one)
            kept.append(one)
        if known is None and place:
            unseen.append(name)
        former = one
    if absent:
        audit.unproved.append(f"Transcripts of run {run} that the ledger does not keep: {', '.join(absent)}.")
    if unseen:
        audit.unproved.append(f"What came right before {', '.join(unseen)} in run {run}: a state that others confirmed was adopted there.")
    return (
        f"{len(kept) - before} transcripts of run {run} follow each other, bear the signatures of enough institutions of the own roster, "
        f"and hold what {membership.name} sent."
    )


def _order(ledger: Ledger, run: str) -> list[tuple[int, str]]:
    """Round and name of the plan's sums."""
    canonical = ledger.plan(run)
    if canonical is None:
        raise LedgerError(f"run {run} has finished sums and no plan in the ledger; restore the institution's home")
    return [(planned.round, planned.kind) for planned in planned_sums(plan_from_canonical(canonical))]


def _place(ledger: Ledger, finished: FinishedSum) -> int:
    order, named = _order(ledger, finished.run), (finished.round, finished.sum)
    if named not in order:
        raise LedgerError(f"run {finished.run} has no {named[1]} sum of round {named[0]} by its plan; restore the institution's home")
    return order.index(named)


def _transcript(ledger: Ledger, finished: FinishedSum) -> Transcript | None:
    body = ledger.transcript(finished.transcript)
    if body is None:
        return None
    one = Transcript.from_bytes(body)
    said = (one.hash, one.manifest.run, one.manifest.round, one.manifest.sum, one.after)
    if said != (finished.transcript, finished.run, finished.round, finished.sum, finished.state_hash):
        raise LedgerError(f"{_where(one)}: the transcript is another one than the sum's row names; restore the institution's home")
    return one


def _check(membership: Membership, one: Transcript, former: Transcript | None, first: bool) -> None:
    try:
        verify_transcript(one, membership.roster, membership.coordinator_key)
        if former is not None:
            check_follows(one, former)
    except ProtocolError as error:
        raise LedgerError(f"{_where(one)}: {error}") from None
    if first and one.manifest.previous_transcript != bytes(32):
        raise LedgerError(f"{_where(one)}: the transcript of the run's first sum follows another one")


def _check_own_part(ledger: Ledger, name: str, one: Transcript) -> None:
    manifest, proposal = one.manifest, one.certificate.proposal
    if name in proposal.roots and proposal.roots[name] != claimed_root(ledger, manifest):
        raise LedgerError(f"{_where(one)}: its set holds something as the input of {name} that it did not send")
    if not is_claimed_set(ledger, manifest, proposal):
        raise LedgerError(f"{_where(one)}: its set is another one than {name} signed")


def _state(ledger: Ledger, run: str) -> str:
    position, last = ledger.position(run), ledger.finished_sums(run)[-1]
    if position is None or (position.state_hash, position.transcript) != (last.state_hash, last.transcript):
        raise LedgerError(f"run {run} does not stand where its last finished sum led to; restore the institution's home")
    path = ledger.state_path(run, position.state_hash)
    if not path.exists() or state_hash(load_state(path)) != position.state_hash:
        raise LedgerError(f"{path}: missing, or not the state after the last sum; restore the institution's home")
    return f"The state of run {run} is the one after its last transcript."


def _erased(ledger: Ledger, run: str) -> str:
    finished = ledger.finished_sums(run)
    done = {(run, one.round, kind) for one in finished for kind in ((one.sum, TRAINING) if one.sum == "update" else (one.sum,))}
    left = [f"the vector of round {number}, {kind}" for name, number, kind in ledger.vectors.all() if (name, number, kind) in done]
    left += _secrets(ledger, run, finished[-1])
    if left:
        raise LedgerError(f"run {run}: {', '.join(left)} should have been erased when the sum was over; report this as a fault")
    return f"Vectors and secrets of the finished sums of run {run} are erased."


def _secrets(ledger: Ledger, run: str, last: FinishedSum) -> list[str]:
    """Epochs that hold secrets of slots up to that of the last finished sum."""
    one = _transcript(ledger, last)
    if one is None:
        return []
    over, left = (last.round, last.sum) == _order(ledger, run)[-1], []
    for number in ledger.epochs(run):
        stored = ledger.epoch(run, number)
        if stored is None or not stored.state:
            continue
        is_current = number == one.epoch.epoch and stored.stage == "confirmed"
        used = EpochState.from_bytes(stored.state).self_seeds[: one.manifest.slot + 1] if is_current else ()
        if over or number < one.epoch.epoch or any(used):
            left.append(f"secrets of epoch {number}")
    return left


def _heads(ledger: Ledger, name: str, kept: Sequence[Transcript]) -> str:
    shown = ledger.heads.shown()
    try:
        for before, after in pairwise(shown):
            check_extension(before.head, after.digests, after.head)
    except ChainError as error:
        raise LedgerError(f"the kept heads of the event chain contradict each other: {error}; restore the institution's home") from None
    signed = {one.head.length: one.head.hash for one in shown if one.countersigned}
    for one in kept:
        length, head = one.manifest.chain_length, one.manifest.chain_head
        if length and name in one.certificate.signatures and signed.get(length) != head:
            raise LedgerError(f"{_where(one)}: {name} signed a head of the event chain that its ledger does not have")
    if not shown:
        return "No event chain was shown to this institution yet."
    first, last = shown[0].head, shown[-1].head
    return (
        f"{len(shown)} heads of the event chain extend each other, from {first.length} events, which were taken on trust, "
        f"to {last.length} (head {last.hash.hex()[:16]}…); {len(signed)} were countersigned."
    )


def _where(one: Transcript) -> str:
    return f"run {one.manifest.run}, {one.manifest.sum} sum of round {one.manifest.round}"
