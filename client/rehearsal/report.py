"""What a rehearsal found, for people and for programs; no record and no lane of the update is part of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from client.rehearsal.histogram import Histograms
from protocols.plan import Plan

MOST_NAMED = 12
DIFFERENCES = (
    "The keys were made for the rehearsal and are gone, and the signatures are by an identity that was too: nobody can unmask these bytes.",
    "Peers were simulated and sent what this institution sent, so that figures after the round are those of this institution alone.",
    "In a real round keys of an epoch, a few kilobytes, go before the first sum, and Flower and TLS add their own framing.",
)


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor or figure in the update's vector."""

    name: str
    shape: tuple[int, ...]
    bits: int
    integer: bool


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message of the round's uploads: bytes of its signed envelope, then of its masked chunks, as they stand in the file."""

    sum: str
    part: int
    envelope: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Pairs are before and after the round."""

    plan: Plan
    institution: str
    institutions: int  # with simulated peers
    test_bits_per_byte: tuple[float, float]
    training_loss: float | None  # None under [privacy], which sends no loss
    metric: tuple[float | None, float | None]
    seconds: Mapping[str, float]  # of each sum's work, by round/kind
    peak_memory: int
    held: tuple[Held, ...]
    messages: tuple[SentMessage, ...]
    histograms: Histograms

    @property
    def sent(self) -> int:
        """Bytes of the round's uploads."""
        return sum(one.envelope + one.chunks for one in self.messages)

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "plan": {"name": self.plan.name, "sha256": self.plan.sha256},
            "institution": self.institution,
            "institutions": self.institutions,
            "test_bits_per_byte": list(self.test_bits_per_byte),
            "training_loss": self.training_loss,
            "metric": {"name": self.plan.evaluation.metric, "before": self.metric[0], "after": self.metric[1]},
            "seconds": dict(self.seconds),
            "peak_memory_bytes": self.peak_memory,
            "vector": [{"name": h.name, "shape": list(h.shape), "bits": h.bits, "integer": h.integer} for h in self.held],
            "messages": [{"sum": m.sum, "part": m.part, "envelope_bytes": m.envelope, "chunk_bytes": m.chunks} for m in self.messages],
            "sent_bytes": self.sent,
            "differs": [*self._private(), *DIFFERENCES],
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        before, after = self.test_bits_per_byte
        yield f"Round 1 of plan {self.plan.name}, as {self.institution} with {self.institutions - 1} simulated peers; nothing was sent."
        yield f"loss on test records: {before:.4f} bits per byte before, {after:.4f} after"
        if self.training_loss is not None:
            yield f"mean loss in training: {self.training_loss:.4f}"
        yield f"{self.plan.evaluation.metric}: {_figure(self.metric[0])} before, {_figure(self.metric[1])} after"
        yield f"time: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in self.seconds.items())}"
        yield f"most memory of this process: {self.peak_memory / 1e6:.0f} MB"
        yield from self._vector()
        for one in self.messages:
            yield f"message {one.part + 1} of the {one.sum} sum: {one.envelope:,} bytes of signed envelope, {one.chunks:,} of masked lanes"
        yield f"the round sends {self.sent:,} bytes"
        yield from (f"note: {sentence}" for sentence in (*self._private(), *DIFFERENCES))

    def _vector(self) -> Iterator[str]:
        yield f"the update's vector holds {len(self.held)} tensors and figures, {sum(math.prod(h.shape) for h in self.held):,} numbers:"
        largest = sorted(self.held, key=lambda held: -math.prod(held.shape))
        for held in largest[:MOST_NAMED]:
            yield f"  {held.name} {'x'.join(map(str, held.shape))}, {held.bits} bits each"
        if len(largest) > MOST_NAMED:
            yield f"  and {len(largest) - MOST_NAMED} smaller ones, which --json lists"

    def _private(self) -> list[str]:
        if self.plan.privacy is None:
            return []
        return ["Noise was drawn and thrown away. The privacy budget is not charged, so the noised update is neither shown nor kept."]


def _figure(value: float | None) -> str:
    return "not measured in this round" if value is None else f"{value:.4f}"
