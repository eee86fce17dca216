"""How institutions learn what a sum brought: each follows its transcript, and who missed more gets the state that others confirmed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from coordinator.link import Link, Reply, Subject
from coordinator.store import Published, RunStore
from protocols.pack import pack
from protocols.state import State, state_arrays, state_header
from protocols.transcript import CONFIRMING, Transcript, confirmation

Place = tuple[bytes, bytes]  # hashes of state and last transcript


def subject_of(transcript: Transcript) -> Subject:
    """A conversation about a finished sum."""
    manifest = transcript.manifest
    return Subject(manifest.round, manifest.sum, 0, manifest.hash)


def publish(link: Link, store: RunStore, published: Published, names: Collection[str]) -> set[str]:
    """Sends a sum's transcript, total and proposal; keeps the signed answers of those who came to its state, and returns their names."""
    transcript = published.transcript
    payload = pack({"transcript": transcript.to_bytes()})
    replies = link.ask(subject_of(transcript), CONFIRMING, dict.fromkeys(names, payload), {"total": published.total, **published.proposal})
    confirmations = {reply.institution: reply.envelope for reply in replies if _confirms(link, reply, CONFIRMING, transcript)}
    store.keep_confirmations(transcript, confirmations)
    return set(confirmations)


def bring_up_to_date(link: Link, store: RunStore, state: State, places: Mapping[str, Place], start: Place) -> set[str]:
    """Those of `places` that are at the run's last state in the end; `start` is the place of a run without a finished sum.

    Who is one sum behind gets that sum's transcript. Who is further behind gets the state, with what the others signed.
    """
    published = store.published
    if published is None:
        return {name for name, place in places.items() if place == start}
    manifest, transcript = published.transcript.manifest, published.transcript
    there = {name for name, place in places.items() if place == (transcript.after, transcript.hash)}
    behind = {name for name, place in places.items() if place == (manifest.state_hash, manifest.previous_transcript)}
    far = places.keys() - there - behind
    # Who is there may have confirmed to a process that died before it could keep the answer.
    unconfirmed = there - published.confirmations.keys() if far else set()
    told = publish(link, store, published, behind | unconfirmed) if behind | unconfirmed else set()
    return there | told | (_hand_over(link, store, state, far) if far else set())


def _hand_over(link: Link, store: RunStore, state: State, names: Collection[str]) -> set[str]:
    published = store.published
    if published is None:
        return set()
    transcript, epoch = published.transcript, published.transcript.epoch
    confirmations = {name: signed for name, signed in published.confirmations.items() if name in epoch.members}
    if len(confirmations) < epoch.threshold:
        for name in names:
            link.exclude(
                name, "query.state", f"{len(confirmations)} institutions confirmed the last state and {epoch.threshold} are needed"
            )
        return set()
    parts = {"header": state_header(state), "transcript": transcript.to_bytes(), "confirmations": pack(confirmations)}
    replies = link.ask(subject_of(transcript), "query.state", dict.fromkeys(names, pack(parts)), state_arrays(state))
    return {reply.institution for reply in replies if _confirms(link, reply, "query.state", transcript)}


def _confirms(link: Link, reply: Reply, message_type: str, transcript: Transcript) -> bool:
    confirms = dict(reply.parts) == confirmation(transcript)
    if not confirms:
        link.exclude(reply.institution, message_type, "it answered without confirming the state; both sides must run the same version")
    return confirms
