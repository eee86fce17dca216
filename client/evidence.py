"""What the requests prove that contradicted what this institution had answered, promised or been shown before."""

from __future__ import annotations

import hashlib

from client.ledger import Ledger
from protocols.errors import ConsortiumError
from protocols.identity import open_envelope_of

_AGAINST = {
    "query.survivors": "proposes another set than this institution is bound to",
    "query.unmask": "certifies another set than this institution is bound to",
}
_SUM = "uses a slot for a second manifest or vector, or names an event chain that is not shown to extend the one before"


def read_evidence(ledger: Ledger, coordinator_key: bytes) -> list[str]:
    """One sentence for each request that was kept, in the order in which they came."""
    return [_proof(ledger, coordinator_key, key, request) for key, request in ledger.evidence()]


def _proof(ledger: Ledger, coordinator_key: bytes, key: str, request: bytes) -> str:
    answered = ledger.answered(key)
    if not _is_signed(request, coordinator_key):
        return f"{key}: a request without the coordinator's signature, which proves nothing ({_short(request)})."
    if answered is not None and answered != request and _is_signed(answered, coordinator_key):
        return f"{key}: the coordinator signed two different requests under one key ({_short(answered)}, {_short(request)})."
    against = _AGAINST.get(key.rsplit("/", 1)[-1], _SUM)
    return f"{key}: the coordinator signed a request that {against} ({_short(request)})."


def _is_signed(request: bytes, coordinator_key: bytes) -> bool:
    try:
        open_envelope_of(request, coordinator_key)
    except ConsortiumError:
        return False
    return True


def _short(request: bytes) -> str:
    return f"SHA-256 {hashlib.sha256(request).hexdigest()[:16]}…"
