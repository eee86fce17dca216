"""How institutions learn what a sum brought: each follows its transcript, and who missed more gets the state that others confirmed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coordinator.errors import JobError
from coordinator.link import Link, Reply, Subject
from coordinator.payloads import Payloads
from coordinator.store import RunStore
from coordinator.sum_record import SumRecord
from protocols.errors import ProtocolError
from protocols.lanes import LaneFormat
from protocols.pack import pack
from protocols.secagg import OpenedSeeds
from protocols.state import State, state_arrays, state_header
from protocols.transcript import COMMITTING, CONFIRMING, Transcript, confirmation

MOST_SHOWN = 1024  # chunks that one institution may ask to see: all of a pre-round, eight of other sums
Place = tuple[bytes, bytes]  # hashes of state and last transcript


def subject_of(transcript: Transcript) -> Subject:
    """A conversation about a finished sum."""
    manifest = transcript.manifest
    return Subject(manifest.round, manifest.sum, 0, manifest.hash)


def publish(link: Link, record: SumRecord, names: Collection[str]) -> set[str]:
    """Binds itself to a sum's transcript, shows what each institution then draws, and sends total and proposal.

    Keeps the signed answers of those who came to the transcript's state, and returns their names.
    """
    transcript, opened = _outcome(record)
    subject, committed = subject_of(transcript), {"transcript": transcript.to_bytes()}
    lanes, asked = transcript.manifest.lanes, dict.fromkeys(names, pack(committed))
    drawn = link.collect(subject, COMMITTING, asked, lambda reply: read_challenge(lanes, reply.part("challenge")))

    def payload(name: str) -> bytes:
        shown = pack(record.show(link.roster, drawn[name][:MOST_SHOWN]))
        return pack(committed | {"opened": opened.to_bytes(), "rows": record.rows, "shown": shown})

    arrays: dict[str, NDArray[Any]] = {"total": np.frombuffer(record.total, np.uint8), **(record.rebalancing or {})}
    confirmations = link.follow_up(subject, CONFIRMING, Payloads(drawn, payload), lambda reply: _confirmation(reply, transcript), arrays)
    record.keep_confirmations(confirmations)
    return set(confirmations)


def read_challenge(lanes: LaneFormat, data: bytes) -> list[int]:
    """The chunks that an institution asks to see: numbers of 4 bytes, little-endian.

    Raises:
        ProtocolError: one of them is no chunk of the total.
    """
    drawn = [int.from_bytes(data[start : start + 4], "little") for start in range(0, len(data), 4)]
    if len(data) % 4 or any(chunk >= lanes.chunks for chunk in drawn):
        raise ProtocolError(f"it asks to see chunks that a total of {lanes.chunks} does not have; both sides must run the same version")
    return drawn


def _outcome(record: SumRecord) -> tuple[Transcript, OpenedSeeds]:
    transcript, opened = record.transcript, record.opened
    if transcript is None or opened is None:
        raise JobError(f"{record.folder}: the sum's files are damaged; start the plan again in a new directory")
    return transcript, opened


def bring_up_to_date(link: Link, store: RunStore, state: State, places: Mapping[str, Place], start: Place) -> set[str]:
    """Those of `places` that are at the run's last state in the end; `start` is the place of a run without a finished sum.

    Who is one sum behind gets that sum's transcript. Who is further behind gets the state, with what the others signed.
    """
    published = store.published
    if published is None:
        return {name for name, place in places.items() if place == start}
    transcript, _ = _outcome(published)
    manifest = transcript.manifest
    there = {name for name, place in places.items() if place == (transcript.after, transcript.hash)}
    behind = {name for name, place in places.items() if place == (manifest.state_hash, manifest.previous_transcript)}
    far = places.keys() - there - behind
    # Who is there may have confirmed to a process that died before it could keep the answer.
    unconfirmed = there - published.confirmations.keys() if far else set()
    told = publish(link, published, behind | unconfirmed) if behind | unconfirmed else set()
    return there | told | (_hand_over(link, store, state, far) if far else set())


def _hand_over(link: Link, store: RunStore, state: State, names: Collection[str]) -> set[str]:
    published = store.published
    if published is None:
        return set()
    transcript, _ = _outcome(published)
    epoch = transcript.epoch
    confirmations = {name: signed for name, signed in published.confirmations.items() if name in epoch.members}
    if len(confirmations) < epoch.threshold:
        for name in names:
            link.exclude(
                name, "query.state", f"{len(confirmations)} institutions confirmed the last state and {epoch.threshold} are needed"
            )
        return set()
    parts = {"header": state_header(state), "transcript": transcript.to_bytes(), "confirmations": pack(confirmations)}
    payloads = dict.fromkeys(names, pack(parts))
    return set(link.collect(subject_of(transcript), "query.state", payloads, lambda r: _confirmation(r, transcript), state_arrays(state)))


def _confirmation(reply: Reply, transcript: Transcript) -> bytes:
    """The signed answer, if it says that its institution came to the transcript's state."""
    if dict(reply.parts) != confirmation(transcript):
        raise ProtocolError("it answered without confirming the state; both sides must run the same version")
    return reply.envelope
