"""What one sum asks, signed by the coordinator; its hash is in every mask (PROTOCOL, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.codec import SignedMessage
from protocols.epoch import EpochManifest
from protocols.errors import ProtocolError
from protocols.identity import verify
from protocols.lanes import LaneFormat


@dataclass(frozen=True)
class SumManifest(SignedMessage):
    """Equal for every institution: whatever differs between them is decided there and hidden in the vector.

    The plan's hash covers training terms, clipping, weights and privacy terms; the layout's hash order, shape and scale of
    every tensor. Vectors that were masked for different manifests, signature included, never cancel.
    """

    run: str
    round: int
    sum: str
    attempt: int
    slot: int
    plan_hash: bytes
    epoch_hash: bytes
    state_hash: bytes
    layout_hash: bytes
    lanes: LaneFormat
    previous_transcript: bytes
    chain_head: bytes
    chain_length: int
    signature: bytes = b""

    def check(self, epoch: EpochManifest, coordinator_key: bytes) -> None:
        """What a member checks that needs no state.

        Raises:
            SignatureError, ProtocolError, EncodingError: not the coordinator's, or for another epoch, slot or kind of lanes.
        """
        verify(coordinator_key, self.signed(), self.signature, "the coordinator")
        check_epoch(epoch, self)
        self.lanes.check()


def check_epoch(epoch: EpochManifest, manifest: SumManifest) -> None:
    """Raises ProtocolError unless the manifest is for a slot of this epoch."""
    if manifest.epoch_hash != epoch.hash:
        raise ProtocolError("the manifest belongs to another epoch")
    if manifest.slot >= epoch.slots:
        raise ProtocolError(f"slot {manifest.slot} does not exist in an epoch of {epoch.slots}; begin a new epoch")
