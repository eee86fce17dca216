"""What this institution keeps against a coordinator, and what of it convinces whoever has the coordinator's key."""

from __future__ import annotations

from client.institution import Membership
from client.ledger import Ledger
from protocols.errors import NoProof, ProtocolError
from protocols.identity import open_envelope_of
from protocols.proofs import ContradictionProof, WrongTotalProof

_OVER_SETS = ("/query.survivors", "/query.unmask")


def read_evidence(ledger: Ledger, membership: Membership) -> list[str]:
    """One sentence for each request that contradicts an earlier one, then for each total that was shown to be wrong."""
    contradictions = [_contradiction(one.key, one.earlier, one.request, membership.coordinator_key) for one in ledger.evidence()]
    return contradictions + [_wrong_total(run, proof, membership) for run, proof in ledger.proofs()]


def _contradiction(key: str, earlier: bytes, request: bytes, coordinator_key: bytes) -> str:
    try:
        return f"{key}: proved, {ContradictionProof(earlier, request).accuse(coordinator_key)}."
    except (NoProof, ProtocolError) as error:
        if _of_two_runs(earlier, request, coordinator_key):
            return (
                f"{key}: a request of another run was refused, over another set than was signed before for the same state, which "
                "is no proof to others: so it does where a plan was submitted again with the same seed."
            )
        return f"{key}: a request was refused that contradicts what is in this ledger, which is no proof to others: {error}."


def _of_two_runs(earlier: bytes, request: bytes, coordinator_key: bytes) -> bool:
    """Whether two runs asked for a set of survivors each."""
    try:
        asked = [open_envelope_of(data, coordinator_key) for data in (earlier, request)]
    except ProtocolError:
        return False
    return asked[0].run != asked[1].run and all(one.stage.endswith(_OVER_SETS) for one in asked)


def _wrong_total(run: str, proof: bytes, membership: Membership) -> str:
    try:
        shown, key = WrongTotalProof.from_bytes(proof), membership.coordinator_key
        return f"{run}: proved, {shown.accuse(membership.parties.roster_of(shown.transcript(key).epoch), key)}."
    except (NoProof, ProtocolError) as error:
        return f"{run}: a total was refused, which is no proof to others: {error}."
