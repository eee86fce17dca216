"""What a node counts of its own answers, in a file that outlives it: how many of which kind, seconds, bytes, refusals."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from protocols.files import write_file
from protocols.identity import Envelope
from protocols.pack import unpack
from protocols.wire import Parcel

COUNT, SECONDS, BYTES, REFUSED = range(4)
Counted = dict[str, tuple[float, float, float, float]]  # message type -> its figures, in the order of the constants


class Tally:
    """Told of every answer; the figures go on from those of an earlier process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counted: defaultdict[str, tuple[float, float, float, float]] = defaultdict(lambda: (0, 0, 0, 0), read_tally(path))

    def note(self, message_type: str, answer: Parcel | None, seconds: float) -> None:
        """An answer, or None where none could be given. A full disk costs the figure and nothing else."""
        count, before, size, refused = self._counted[message_type]
        size += _size_of(answer) if answer is not None else 0
        self._counted[message_type] = (count + 1, before + seconds, size, refused + (answer is None or is_refusal(answer)))
        with suppress(OSError):
            write_file(self._path, json.dumps(self._counted).encode(), 0o600)


Watch = Callable[[str, Parcel | None, float], None]  # Tally.note, or nobody


def read_tally(path: Path) -> Counted:
    """What was written; nothing where there is no such file or it cannot be read."""
    try:
        return {str(kind): (float(a), float(b), float(c), float(d)) for kind, (a, b, c, d) in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def is_refusal(answer: Parcel) -> bool:
    """Whether a node's own answer says no."""
    return "refused" in unpack(Envelope.from_bytes(unpack(answer.envelope)["envelope"]).payload)


def _size_of(answer: Parcel) -> int:
    return len(answer.envelope) + sum(array.nbytes for array in answer.arrays.values())
