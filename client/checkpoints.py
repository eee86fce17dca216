"""A round's training, kept on the institution's own disk while it lasts, so that a kill costs the steps since the last file and no more.

One file a run, written under another name, fsynced and renamed. It counts for exactly the training that it is of: any other run, round,
plan, start, record or way of computing finds nothing there and begins at its first step.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from model.progress import Progress
from protocols.files import write_file

SHARE = 50  # a file that takes a second to write is followed by none for as many: at most 2% of the time
_DIGEST = 32  # bytes of SHA-256 before the arrays
logger = logging.getLogger("consortium.client")


class Checkpoint:
    """The progress of one training; satisfies `model.progress.Keeper`."""

    def __init__(self, path: Path, identity: Callable[[], bytes], seconds: float, clock: Callable[[], float]) -> None:
        self._path, self._identity, self._seconds, self._clock = path, identity, seconds, clock
        self._due, self._failed = clock() + seconds, False
        self._begin = self._read()

    @property
    def begin(self) -> Progress | None:
        return self._begin

    def after_step(self, progress: Callable[[], Progress]) -> None:
        """Writes a file where the last one is old enough. A disk that is full costs one line in the log, and the training goes on."""
        started = self._clock()
        if started < self._due:
            return
        try:
            write_file(self._path, _to_bytes(progress(), self._identity()), mode=0o600)
        except OSError as error:
            if not self._failed:
                logger.warning("a training goes on without a checkpoint: %s; a kill would cost its steps", error)
            self._failed = True
        finished = self._clock()
        self._due = finished + max(self._seconds, SHARE * (finished - started))

    def _read(self) -> Progress | None:
        if not self._path.exists():
            return None
        try:
            identity, progress = _from_bytes(self._path.read_bytes())
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            logger.warning("%s is damaged; the training begins at its first step", self._path)
            return None
        return progress if identity == self._identity() else None


CheckpointOf: TypeAlias = Callable[[Callable[[], bytes]], Checkpoint]  # what is trained, told only where it is needed -> its checkpoint


class Checkpoints:
    """A node's checkpoints, `home`/checkpoints/RUN.safetensors, at least `seconds` apart; none where that is 0."""

    def __init__(self, home: Path, seconds: float, clock: Callable[[], float]) -> None:
        self._folder, self._seconds, self._clock = home / "checkpoints", seconds, clock

    def of_run(self, run: str) -> CheckpointOf | None:
        """Opens the checkpoint of a run's training."""
        return partial(self._open, run) if self._seconds else None

    def erase(self, run: str) -> None:
        """Removes a run's file, and what a kill left half written of it; called once a training's outcome is kept elsewhere."""
        self._path(run).unlink(missing_ok=True)
        for path in self._folder.glob(f".{self._path(run).name}.*"):
            path.unlink(missing_ok=True)

    def _open(self, run: str, identity: Callable[[], bytes]) -> Checkpoint:
        return Checkpoint(self._path(run), partial(_identity_in, run, identity), self._seconds, self._clock)

    def _path(self, run: str) -> Path:
        return self._folder / f"{run}.safetensors"


def _identity_in(run: str, identity: Callable[[], bytes]) -> bytes:
    return hashlib.sha256(run.encode() + b"\0" + identity()).digest()


def _to_bytes(progress: Progress, identity: bytes) -> bytes:
    header = json.dumps([identity.hex(), progress.step, progress.loss_sum, progress.examples, progress.target_tokens])
    # The header is an array too: safetensors' reader of bytes does not give its metadata back.
    arrays: dict[str, NDArray[Any]] = {**progress.arrays, "header": np.frombuffer(header.encode(), np.uint8)}
    content: bytes = save(arrays)
    return hashlib.sha256(content).digest() + content


def _from_bytes(data: bytes) -> tuple[bytes, Progress]:
    """Raises ValueError, KeyError, TypeError or SafetensorError for anything that `_to_bytes` did not write."""
    digest, content = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("other bytes than were written")
    arrays = load(content)
    identity, step, loss_sum, examples, tokens = json.loads(arrays.pop("header").tobytes())
    return bytes.fromhex(identity), Progress(int(step), arrays, float(loss_sum), int(examples), int(tokens))
