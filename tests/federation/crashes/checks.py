"""What holds of a conversation however many lives it took (PROTOCOL, section 6: I-2, I-3, I-6, I-10)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from coordinator.store import RunStore
from protocols.encoding import decode, rescaled
from protocols.participation import institutions_of
from protocols.schedule import planned_sums
from protocols.secagg import SumManifest, SurvivorCertificate, SurvivorProposal, read_total
from protocols.state import state_hash
from protocols.terms import Terms
from protocols.transcript import Transcript, survivors_of
from tests.federation.crashes.lives import Lived
from tests.federation.crashes.watched import Answered, Log, is_once


def check(run: Lived) -> None:
    """Raises AssertionError if any of it does not hold."""
    check_said(run.log)
    check_promised(run.log)
    check_totals(run)
    assert not run.log.idle, run.log.idle
    for name, node in run.federation.nodes.items():
        assert not node.ledger.evidence(), f"{name} holds evidence against its coordinator"
        assert not node.ledger.proofs(), f"{name} holds a proof against its coordinator"
    positions = {node.ledger.position(run.result.run) for node in run.federation.nodes.values()}
    assert len(positions) == 1, "institutions stand at different places"
    assert all(position is not None and position.state_hash == state_hash(run.result.state) for position in positions)


def check_said(log: Log) -> None:
    """One request and one answer under a key (I-6), in one form; and parts of an upload in one form."""
    for said, what in ((log.requests, "asked"), (log.replies, "answered"), (log.arrays, "sent")):
        twice = [key for key, forms in said.items() if len(forms) > 1 and is_once(key[1])]
        assert not twice, f"{what} in two ways: {twice}"


def check_promised(log: Log) -> None:
    """A slot has one manifest, vector and set (I-2); a state and kind of sum has one set (I-3)."""
    _single(((sent.institution, m.epoch_hash, m.slot), m.hash) for sent, m in _sums(log))
    _single(((sent.institution, m.hash), proposal.to_bytes()) for sent, m, proposal in _sets(log))
    _single(((sent.institution, m.state_hash, m.sum), proposal.members) for sent, m, proposal in _sets(log))
    for key, vectors in log.vectors.items():
        assert len(vectors) == 1, f"two vectors of {key}"


def check_totals(run: Lived) -> None:
    """Every total is the plain sum of its survivors' vectors (I-10), and the states follow from the totals."""
    terms, store = Terms(run.federation.plan, run.federation.adaptation), RunStore(run.points.directory / "runs" / run.result.run)
    transcripts = _transcripts(store)
    state = terms.start()
    for planned in planned_sums(run.federation.plan):
        transcript, written = transcripts[planned.round, planned.kind]
        lanes, total = transcript.manifest.lanes, read_total(transcript.manifest.lanes, written.data)
        plain, layout, members = np.zeros_like(total), terms.lanes(state, planned), transcript.epoch.n
        for name in transcript.certificate.proposal.members:
            ((vector, made_for),) = run.log.vectors[name, planned.round, planned.kind]
            plain += rescaled(np.frombuffer(vector, "<u4"), layout, made_for, members)
        lanes.reduce(plain, 0)
        assert np.array_equal(total, plain), f"the total of {planned} is not the plain sum"
        survivors, everybody = survivors_of(transcript.epoch, transcript.certificate), institutions_of(run.federation.plan, members)
        state, _ = terms.apply(state, planned, decode(total, layout, members), survivors, everybody)
    assert state_hash(state) == state_hash(run.result.state)


def _transcripts(store: RunStore) -> dict[tuple[int, str], tuple[Transcript, NDArray[np.uint8]]]:
    done = [(record.transcript, record.total) for record in store.records if record.transcript is not None]
    found = {(one.manifest.round, one.manifest.sum): (one, total) for one, total in done if one is not None}
    assert len(found) == len(done), "a sum was opened twice"
    return found


def _sums(log: Log) -> Iterator[tuple[Answered, SumManifest]]:
    for sent in log.answered:
        if sent.envelope.stage.endswith(".sum"):
            yield sent, SumManifest.from_bytes(sent.parts["manifest"])


def _sets(log: Log) -> Iterator[tuple[Answered, SumManifest, SurvivorProposal]]:
    for sent in log.answered:
        if "proposal" in sent.parts:
            yield sent, SumManifest.from_bytes(sent.parts["manifest"]), SurvivorProposal.from_bytes(sent.parts["proposal"])
        if "certificate" in sent.parts:
            certificate = SurvivorCertificate.from_bytes(sent.parts["certificate"])
            yield sent, SumManifest.from_bytes(sent.parts["manifest"]), certificate.proposal


def _single(pairs: Iterable[tuple[Hashable, Hashable]]) -> None:
    values: dict[Hashable, set[Hashable]] = defaultdict(set)
    for key, value in pairs:
        values[key].add(value)
    twice = [key for key, found in values.items() if len(found) > 1]
    assert not twice, f"bound to two things: {twice}"
