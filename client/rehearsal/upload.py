"""The messages of an upload, byte for byte as a node answers them; only keys, and what is signed with them, are made for the rehearsal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from client.answering import sealed
from client.node import Node, Result
from client.rehearsal.cohort import RehearsalCohort
from client.rehearsal.node import RUN
from protocols.encoding import LaneLayout
from protocols.identity import Envelope
from protocols.schedule import PlannedSum
from protocols.secagg import chunks_of, parts_of, rehearse_upload


@dataclass(frozen=True, slots=True)
class UploadMessage:
    """One answer: the signed envelope, and the chunks of masked lanes that travel beside it."""

    envelope: bytes
    chunks: bytes


def upload_messages(
    node: Node, cohort: RehearsalCohort, planned: PlannedSum, lanes: LaneLayout, vector: NDArray[np.uint32]
) -> Iterator[UploadMessage]:
    """The answer to the request for the sum, with the root and the first part, and one for each further part."""
    members, colluding = cohort.members(planned), cohort.plan.secure_aggregation.colluding
    made = rehearse_upload(node.name, vector, lanes.format, members, colluding, node.randomness)
    sender = replace(node, identity=made.identity)
    for part in range(parts_of(lanes.format)):
        first = "evaluate.sum" if planned.kind == "evaluate" else "train.sum"
        stage = f"{planned.kind}/{'query.upload' if part else first}"
        request = Envelope("coordinator", node.name, RUN, planned.round, 1, stage, made.manifest.hash, 0, b"")
        chunks = b"".join(made.upload.chunks[number] for number in chunks_of(lanes.format, part))
        parts = {} if part else {"root": made.upload.root.to_bytes()}
        parcel = sealed(sender, request, Result(parts, {"chunks": np.frombuffer(chunks, np.uint8)}))
        yield UploadMessage(parcel.envelope, parcel.arrays["chunks"].tobytes())
