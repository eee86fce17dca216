"""An audit of an institution's own ledger: what it proves of the runs that it took part in, and what it cannot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import ParamSpec

from client.errors import LedgerError
from client.institution import Membership
from client.ledger import Ledger
from client.ledger_rows import FinishedSum
from client.promises import claimed_root, is_claimed_set
from client.returning import FIRST
from client.vectors import TRAINING
from client.verify_charges import verify_charges
from client.verify_rows import verify_rows
from protocols.audit import Audit
from protocols.chain import check_extension
from protocols.epoch import EpochState
from protocols.errors import ChainError, ConsortiumError, ProtocolError
from protocols.plan import Plan, plan_from_canonical
from protocols.schedule import keeps_training, planned_sums
from protocols.state import load_state, state_hash
from protocols.transcript import Transcript, check_follows, verify_transcript

P = ParamSpec("P")
RESTORE = "restore the institution's home"
NOT_PROVED = (
    "Whether others were shown the same events: `consortium coordinator verify --roster` compares a registry with what they signed.",
    "Whether every chunk of the totals is the sum of what was sent: this institution looked at those that it drew.",
    "Whether the whole folder was put back to an earlier time together with its incarnation file.",
    "Whether rows were taken out of replies, evidence, proofs, challenges, epochs, heads, vectors, privacy: only promises are counted.",
    "What is this institution's own word only: the table meta, every time, stages and secrets in epochs, and the chunks in challenges.",
    "The same of promises in claims without a request, of inputs' hashes there, and of what was sent for sums that did not finish.",
)


def verify_ledger(ledger: Ledger, membership: Membership) -> Audit:
    """Checks every row that can be read, every transcript that the ledger keeps, its heads of the event chain, and what was erased.

    Args:
        ledger: opened, so that its incarnation was checked already.
        membership: the institution's own roster and name.
    """
    audit = Audit("this ledger", unproved=list(NOT_PROVED))
    audit.proved.append(f"The ledger is incarnation {ledger.incarnation}, as the file beside it says.")
    if ledger.incarnation != FIRST:
        audit.unproved.append("What this institution sent and promised between the backup and the restore: its ledger does not hold it.")
    kept: list[Transcript] = []
    for run in dict.fromkeys(row["run"] for table in ("sums", "positions", "runs") for row in ledger.rows(table)):
        _attempt(audit, _transcripts, ledger, membership, run, audit, kept)
        _attempt(audit, _state, ledger, run)
        _attempt(audit, _erased, ledger, run)
        _attempt(audit, verify_charges, ledger, run)
    _attempt(audit, _heads, ledger, membership.name, kept, audit)
    verify_rows(ledger, membership, audit)
    return audit


def _attempt(audit: Audit, check: Callable[P, str], *subject: P.args, **options: P.kwargs) -> None:
    """As `Audit.attempt`, where rows may hold anything at all; a check that had nothing to look at says nothing."""
    try:
        sentence = check(*subject, **options)
    except ConsortiumError as error:
        audit.failed.append(str(error))
    except (ValueError, TypeError, LookupError, AttributeError):
        audit.failed.append("a row that other rows depend on cannot be read; restore the institution's home")
    else:
        audit.proved += [sentence] if sentence else []


def _transcripts(ledger: Ledger, membership: Membership, run: str, audit: Audit, kept: list[Transcript]) -> str:
    """Adds the run's transcripts to `kept`, and to the audit what is missing or lies between them unseen."""
    former: Transcript | None = None
    absent, unseen, before, place = [], [], len(kept), -1
    for finished in ledger.finished_sums(run):
        one = _transcript(ledger, finished)
        preceding, place = place, _place(ledger, finished)
        known = former if place == preceding + 1 else None
        if one is None:
            absent.append(finished)
        else:
            _check(membership, one, known, first=place == 0)
            _check_own_part(ledger, membership.name, one)
            kept.append(one)
        if place != preceding + 1:
            unseen.append(f"{finished.round}-{finished.sum}")
        former = one
    _tell_absent(ledger, run, absent, audit)
    if unseen:
        audit.unproved.append(f"What came right before {', '.join(unseen)} in run {run}: a state that others confirmed was adopted there.")
    count = len(kept) - before
    if not count:
        return ""
    return (
        f"{count} transcripts of run {run} follow each other, bear the signatures of enough institutions of the own roster, "
        f"and hold what {membership.name} sent."
    )


def _tell_absent(ledger: Ledger, run: str, absent: Sequence[FinishedSum], audit: Audit) -> None:
    """Transcripts that are missing are wrong, but for sums that were finished before they were kept."""
    earlier = ledger.sums_before_transcripts()
    named = {is_old: ", ".join(f"{one.round}-{one.sum}" for one in absent if (one in earlier) is is_old) for is_old in (True, False)}
    if named[True]:
        audit.unproved.append(f"Transcripts of run {run} that the ledger does not keep: {named[True]}.")
    if named[False]:
        audit.failed.append(f"run {run}: the transcripts of {named[False]} are missing from the ledger; restore the institution's home")


def _order(ledger: Ledger, run: str) -> list[tuple[int, str]]:
    """Round and name of the plan's sums."""
    return [(planned.round, planned.kind) for planned in planned_sums(_plan(ledger, run))]


def _plan(ledger: Ledger, run: str) -> Plan:
    canonical = ledger.plan(run)
    if canonical is None:
        raise LedgerError(f"run {run} has finished sums and no plan in the ledger; {RESTORE}")
    return plan_from_canonical(canonical)


def _place(ledger: Ledger, finished: FinishedSum) -> int:
    order, named = _order(ledger, finished.run), (finished.round, finished.sum)
    if named not in order:
        raise LedgerError(f"run {finished.run} has no {named[1]} sum of round {named[0]} by its plan; {RESTORE}")
    return order.index(named)


def _transcript(ledger: Ledger, finished: FinishedSum) -> Transcript | None:
    body = ledger.transcript(finished.transcript)
    if body is None:
        return None
    one = Transcript.from_bytes(body)
    said = (one.hash, one.manifest.run, one.manifest.round, one.manifest.sum, one.after)
    if said != (finished.transcript, finished.run, finished.round, finished.sum, finished.state_hash):
        raise LedgerError(f"{_where(one)}: the transcript is another one than the sum's row names; {RESTORE}")
    if finished.institutions != len(one.certificate.proposal.members):
        raise LedgerError(f"{_where(one)}: the transcript is of another number of institutions than the sum's row; {RESTORE}")
    if one.manifest.plan_hash.hex() != _plan(ledger, finished.run).sha256:
        raise LedgerError(f"{_where(one)}: the transcript is for another plan than the ledger's; {RESTORE}")
    return one


def _check(membership: Membership, one: Transcript, former: Transcript | None, first: bool) -> None:
    try:
        verify_transcript(one, membership.parties.roster_of(one.epoch), membership.coordinator_key)
        if former is not None:
            check_follows(one, former)
    except ProtocolError as error:
        raise LedgerError(f"{_where(one)}: {error}") from None
    if first and one.manifest.previous_transcript != bytes(32):
        raise LedgerError(f"{_where(one)}: the transcript of the run's first sum follows another one")


def _check_own_part(ledger: Ledger, name: str, one: Transcript) -> None:
    manifest, proposal = one.manifest, one.certificate.proposal
    if name in proposal.roots and proposal.roots[name] != claimed_root(ledger, manifest) and not _is_forgotten(ledger, one):
        raise LedgerError(f"{_where(one)}: its set holds something as the input of {name} that it did not send")
    if not is_claimed_set(ledger, manifest, proposal):
        raise LedgerError(f"{_where(one)}: its set is another one than {name} signed")


def _is_forgotten(ledger: Ledger, one: Transcript) -> bool:
    """Whether this institution's part in a sum may have been lost with the ledger that it sent from."""
    return claimed_root(ledger, one.manifest) is None and ledger.has_forgotten(one.manifest.run, one.epoch.epoch)


def _state(ledger: Ledger, run: str) -> str:
    position, finished = ledger.position(run), ledger.finished_sums(run)
    _check_promised(ledger, run, {(one.round, one.sum) for one in finished})
    if position is None and not finished:
        return ""
    last = (finished[-1].state_hash, finished[-1].transcript, _place(ledger, finished[-1]) + 1) if finished else None
    if position is None or position != last:
        raise LedgerError(f"run {run} does not stand where its last finished sum led to; {RESTORE}")
    path = ledger.state_path(run, position.state_hash)
    if not path.exists() or state_hash(load_state(path)) != position.state_hash:
        raise LedgerError(f"{path}: missing, or not the state after the last sum; {RESTORE}")
    return f"The state of run {run} is the one after its last transcript."


def _check_promised(ledger: Ledger, run: str, done: Collection[tuple[int, str]]) -> None:
    """A transcript is promised of the next sum alone: the one before it was over."""
    order = _order(ledger, run)
    for row in ledger.rows("claims"):
        kind, *about = row["claim"].split("/")
        place = order.index((int(about[1]), about[2])) if (kind, about[:1]) == ("transcript", [run]) else 0
        if place and order[place - 1] not in done:
            number, before = order[place - 1]
            raise LedgerError(f"run {run}: the {before} sum of round {number} was over and is missing from the table sums; {RESTORE}")


def _erased(ledger: Ledger, run: str) -> str:
    finished = ledger.finished_sums(run)
    if not finished:
        return ""
    done = {(run, one.round, one.sum) for one in finished} | {(run, number, TRAINING) for number in _trained(ledger, run, finished)}
    left = [f"the vector of round {number}, {kind}" for name, number, kind in ledger.vectors.all() if (name, number, kind) in done]
    left += _secrets(ledger, run, finished[-1])
    if left:
        raise LedgerError(f"run {run}: {', '.join(left)} should have been erased when the sum was over; report this as a fault")
    return f"Vectors and secrets of the finished sums of run {run} are erased."


def _trained(ledger: Ledger, run: str, finished: Sequence[FinishedSum]) -> list[int]:
    """Rounds whose last sum of what was trained is over."""
    plan = _plan(ledger, run)
    return [one.round for one in finished if one.sum.startswith("update") and not keeps_training(plan, one.sum)]


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


def _heads(ledger: Ledger, name: str, kept: Sequence[Transcript], audit: Audit) -> str:
    shown = ledger.heads.shown()
    try:
        for before, after in pairwise(shown):
            check_extension(before.head, after.digests, after.head)
    except ChainError as error:
        raise LedgerError(f"the kept heads of the event chain contradict each other: {error}; {RESTORE}") from None
    signed = {one.head.length: one.head.hash for one in shown if one.countersigned}
    for one in kept:
        length, head = one.manifest.chain_length, one.manifest.chain_head
        if length and name in one.certificate.signatures and signed.get(length) != head and not _is_forgotten(ledger, one):
            raise LedgerError(f"{_where(one)}: {name} signed a head of the event chain that its ledger does not have")
    if not shown:
        audit.unproved.append("Anything of an event chain: none was shown to this institution yet.")
        return ""
    first, last = shown[0].head, shown[-1].head
    return (
        f"{len(shown)} heads of the event chain extend each other, from {first.length} events, which were taken on trust, "
        f"to {last.length} (head {last.hash.hex()[:16]}…); {len(signed)} were countersigned."
    )


def _where(one: Transcript) -> str:
    return f"run {one.manifest.run}, {one.manifest.sum} sum of round {one.manifest.round}"
