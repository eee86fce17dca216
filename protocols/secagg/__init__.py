"""The secure sum: its stages, and `run_secagg`, which plays all parties."""

from protocols.secagg.parties import SumResult, run_secagg
from protocols.secagg.sum import (
    Accumulator,
    MaskedInput,
    SumManifest,
    SurvivorCertificate,
    SurvivorProposal,
    UnmaskAnswer,
    certify,
    check_answer,
    check_signature,
    mask_input,
    propose_survivors,
    sign_survivors,
    unmask,
    unmask_sum,
)

__all__ = [
    "Accumulator",
    "MaskedInput",
    "SumManifest",
    "SumResult",
    "SurvivorCertificate",
    "SurvivorProposal",
    "UnmaskAnswer",
    "certify",
    "check_answer",
    "check_signature",
    "mask_input",
    "propose_survivors",
    "run_secagg",
    "sign_survivors",
    "unmask",
    "unmask_sum",
]
