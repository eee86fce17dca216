"""Valid bytes of every message, taken from one real run of the protocol."""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import protocols
from protocols.codec import Message
from protocols.identity import Envelope, _Sealed, seal_envelope
from protocols.lanes import LaneFormat
from protocols.pack import pack
from protocols.secagg import UploadRoot
from tests.fuzz import evidence, service
from tests.protocols.secagg.cohort import Sum
from tests.vectors.replay import fresh_randomness, replayed_sum


def message_kinds() -> list[type[Message]]:
    """Every kind of message that the package defines, in order of name."""
    for module in pkgutil.walk_packages(protocols.__path__, "protocols."):
        importlib.import_module(module.name)
    kinds, waiting = set(), [Message]
    while waiting:
        found = waiting.pop().__subclasses__()
        waiting += found
        kinds |= {kind for kind in found if kind.__module__.startswith("protocols.") and is_dataclass(kind)}
    return sorted(kinds, key=lambda kind: kind.__name__)


@cache
def conversation() -> Sum:
    """Three of four members in a sum, one missing, in an epoch of one slot."""
    return replayed_sum(fresh_randomness())


@cache
def messages() -> Mapping[type[Message], tuple[bytes, ...]]:
    """Bytes of at least one message of every kind that was sent or kept."""
    return messages_of(conversation())


def messages_of(done: Sum) -> Mapping[type[Message], tuple[bytes, ...]]:
    """Those of one sum, the shortest first."""
    found: dict[type[Message], set[bytes]] = defaultdict(set)
    for message in _reached(_said(done)):
        found[type(message)].add(message.to_bytes())
    return {kind: tuple(sorted(data, key=lambda content: (len(content), content))) for kind, data in found.items()}


def sealed_envelopes(done: Sum | None = None) -> list[bytes]:
    """Of the first member, with a payload in parts and with none."""
    done = done or conversation()
    answer = pack({"root": bytes(32), "signature": bytes(64)})
    envelopes = [
        Envelope("ada", "coordinator", "run", 1, 1, "update/train.sum", done.manifest.hash, 0, answer),
        Envelope("ada", "", "run", 0, 0, "run/query.hello", b"", 0, b""),
    ]
    return [seal_envelope(done.cohort.identities["ada"], envelope) for envelope in envelopes]


def _said(done: Sum) -> list[Any]:
    """Everything that holds a message; a new kind of message belongs in here."""
    cohort = done.cohort
    epoch = [cohort.roster, cohort.begun, cohort.dealt, cohort.relayed("ada"), done.states, done.setup]
    rows = [confirmation.shown(0) for confirmation in done.setup.confirmations.values()]
    roots = [UploadRoot(upload.sender, upload.root, upload.signature) for upload in done.uploads.values()]
    after = [evidence.opened(done), evidence.transcript(done), evidence.shown_total(done), LaneFormat(5, 2, 20)]
    proofs = [evidence.proofs_against_coordinators(done), evidence.proofs_against_members(done)]
    envelopes = [_Sealed.from_bytes(data) for data in sealed_envelopes(done)]
    return [epoch, rows, roots, done.certificate(), done.answers(), after, proofs, envelopes, service.said()]


def _reached(value: Any) -> Iterator[Message]:
    if isinstance(value, Message):
        yield value
    if is_dataclass(value):
        inside: list[Any] = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, Mapping):
        inside = list(value.values())
    else:
        inside = list(value) if isinstance(value, (list, tuple)) else []
    for content in inside:
        yield from _reached(content)
