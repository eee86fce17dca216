"""How institutions learn what a sum brought: each follows its transcript, and who missed more gets the state that others confirmed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coordinator.errors import JobError
from coordinator.link import Link, Reply, Subject
from coordinator.payloads import Payloads
from coordinator.showing import Showing
from coordinator.store import RunStore
from coordinator.sum_record import SumRecord
from protocols.errors import ProtocolError
from protocols.lanes import LaneFormat
from protocols.pack import pack
from protocols.secagg import OpenedSeeds, SumManifest, bytes_of_part, looks, parts_of
from protocols.state import State, state_arrays, state_header
from protocols.transcript import COMMITTING, CONFIRMING, TOTAL_PART, Transcript, confirmation

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
    asked, showing = dict.fromkeys(names, pack(committed)), Showing(record, transcript, link.members.roster_of(transcript.epoch))
    drawn = link.collect(subject, COMMITTING, asked, lambda reply: read_challenge(transcript.manifest, reply.part("challenge")))

    told, last = _send_parts(link, subject, committed, record.total, transcript.manifest.lanes, drawn)

    def payload(name: str) -> bytes:
        return pack(committed | {"opened": opened.to_bytes(), "rows": record.rows, "shown": showing.show(drawn[name])})

    arrays: dict[str, NDArray[Any]] = {"total": last, **(record.rebalancing or {})}
    confirmations = link.follow_up(subject, CONFIRMING, Payloads(told, payload), lambda reply: _confirmation(reply, transcript), arrays)
    record.keep_confirmations(confirmations)
    return set(confirmations)


def _send_parts(
    link: Link, subject: Subject, committed: Mapping[str, bytes], total: NDArray[np.uint8], lanes: LaneFormat, names: Collection[str]
) -> tuple[Collection[str], NDArray[np.uint8]]:
    """Sends all but the last part of a total to those `names`; who took them, and the last part, which is all of a small total."""
    parts = parts_of(lanes)
    for part in range(parts - 1):
        payload = pack({**committed, "part": part.to_bytes(4, "little")})
        piece = {"total": total[bytes_of_part(lanes, part)]}
        names = link.follow_up(subject, TOTAL_PART, dict.fromkeys(names, payload), lambda reply: reply.institution, piece)
    return names, total[bytes_of_part(lanes, parts - 1)] if parts > 1 else total


def read_challenge(manifest: SumManifest, data: bytes) -> list[int]:
    """The chunks that an institution asks to see: numbers of 4 bytes, little-endian.

    Raises:
        ProtocolError: one of them is no chunk of the total, or they are more than an institution looks at.
    """
    drawn, chunks = [int.from_bytes(data[start : start + 4], "little") for start in range(0, len(data), 4)], manifest.lanes.chunks
    if len(data) % 4 or any(chunk >= chunks for chunk in drawn):
        raise ProtocolError(f"it asks to see chunks that a total of {chunks} does not have; both sides must run the same version")
    if len(drawn) > looks(manifest.sum, chunks) or len(set(drawn)) < len(drawn):
        raise ProtocolError("it asks to see more chunks than an institution looks at; both sides must run the same version")
    return drawn


def _outcome(record: SumRecord) -> tuple[Transcript, OpenedSeeds]:
    transcript, opened = record.transcript, record.opened
    if transcript is None or opened is None:
        raise JobError(f"{record.folder}: the sum's files are damaged; start the plan again in a new directory")
    return transcript, opened


def bring_up_to_date(
    link: Link, store: RunStore, state: State, places: Mapping[str, Place], wanted: Collection[str], start: Place
) -> set[str]:
    """Those `wanted` that are at the run's last state in the end; `start` is the place of a run without a finished sum.

    Who is one sum behind gets that sum's transcript. Who is further behind gets the state, with what the others signed: whoever
    of `places` is there already may be asked to.
    """
    published = store.published
    if published is None:
        return {name for name in wanted if places[name] == start}
    transcript, _ = _outcome(published)
    manifest = transcript.manifest
    there = {name for name, place in places.items() if place == (transcript.after, transcript.hash)}
    behind = {name for name in wanted if places[name] == (manifest.state_hash, manifest.previous_transcript)}
    far = set(wanted) - there - behind
    # Who is there may have confirmed to a process that died before it could keep the answer.
    unconfirmed = there - published.confirmations.keys() if far else set()
    told = publish(link, published, behind | unconfirmed) if behind | unconfirmed else set()
    return ((there | told) & set(wanted)) | (_hand_over(link, store, state, far) if far else set())


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
