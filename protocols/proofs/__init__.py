"""Proof of a fault that convinces whoever has the roster and the coordinator's key, and needs nobody's word (PROTOCOL, section 4)."""

from protocols.proofs.of_coordinators import ContradictionProof, WrongTotalProof
from protocols.proofs.of_members import (
    MemberProof,
    WrongEnvelopeProof,
    WrongSecretProof,
    WrongShareProof,
    read_member_proof,
    write_member_proof,
)

__all__ = [
    "ContradictionProof",
    "MemberProof",
    "WrongEnvelopeProof",
    "WrongSecretProof",
    "WrongShareProof",
    "WrongTotalProof",
    "read_member_proof",
    "write_member_proof",
]
