"""The secure sum: its stages in the order of the protocol, and `run_secagg`, which plays all parties."""

from protocols.secagg.accumulator import Accumulator, left_masks, remove_masks
from protocols.secagg.audit import ShownChunk, ShownTotal, check_opened, check_opened_pairs, check_shown, looks
from protocols.secagg.inputs import (
    CheckedUpload,
    Upload,
    UploadRoot,
    bytes_of_part,
    check_root,
    check_upload,
    chunks_of,
    mask_chunks,
    mask_input,
    parts_of,
    sign_root,
)
from protocols.secagg.manifest import SumManifest
from protocols.secagg.opening import OpenedSeeds, UnmaskAnswer, check_answer, open_seeds, rows_of, unmask
from protocols.secagg.parties import RehearsedUpload, SumResult, rehearse_upload, run_secagg
from protocols.secagg.survivors import (
    SurvivorCertificate,
    SurvivorProposal,
    certify,
    check_signature,
    propose_survivors,
    sign_survivors,
    verify_certificate,
)
from protocols.secagg.total import chunk_of_total, read_total, root_of, total_leaves, total_root

__all__ = [
    "Accumulator",
    "CheckedUpload",
    "OpenedSeeds",
    "RehearsedUpload",
    "ShownChunk",
    "ShownTotal",
    "SumManifest",
    "SumResult",
    "SurvivorCertificate",
    "SurvivorProposal",
    "UnmaskAnswer",
    "Upload",
    "UploadRoot",
    "bytes_of_part",
    "certify",
    "check_answer",
    "check_opened",
    "check_opened_pairs",
    "check_root",
    "check_shown",
    "check_signature",
    "check_upload",
    "chunk_of_total",
    "chunks_of",
    "left_masks",
    "looks",
    "mask_chunks",
    "mask_input",
    "open_seeds",
    "parts_of",
    "propose_survivors",
    "read_total",
    "rehearse_upload",
    "remove_masks",
    "root_of",
    "rows_of",
    "run_secagg",
    "sign_root",
    "sign_survivors",
    "total_leaves",
    "total_root",
    "unmask",
    "verify_certificate",
]
