"""The secure sum: its stages, and `run_secagg`, which plays all parties."""

from protocols.secagg.parties import SumResult, run_secagg
from protocols.secagg.sum import (
    Accumulator,
    MaskedInput,
    OpenedSeeds,
    SumManifest,
    SurvivorCertificate,
    SurvivorProposal,
    UnmaskAnswer,
    certify,
    check_answer,
    check_signature,
    mask_input,
    open_seeds,
    propose_survivors,
    remove_masks,
    sign_survivors,
    unmask,
    unmask_sum,
)

__all__ = [
    "Accumulator",
    "MaskedInput",
    "OpenedSeeds",
    "SumManifest",
    "SumResult",
    "SurvivorCertificate",
    "SurvivorProposal",
    "UnmaskAnswer",
    "certify",
    "check_answer",
    "check_signature",
    "mask_input",
    "open_seeds",
    "propose_survivors",
    "remove_masks",
    "run_secagg",
    "sign_survivors",
    "unmask",
    "unmask_sum",
]
