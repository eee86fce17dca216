"""What an institution keeps to itself between rounds: one file a round on its own disk, in no message, ledger or log.

Training of a round starts from the newest file of an earlier one and writes its own before its vector is kept, so that a round
that is trained again after a crash has the same bits, on a GPU up to rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from client.errors import LedgerError
from client.storage import must_be_written
from protocols.files import write_file
from protocols.state import Experts, Tensors


@dataclass(frozen=True, slots=True)
class Personal:
    """An institution's own part of a run's model, and its own control variates."""

    tensors: Tensors = field(default_factory=dict)  # of the rule's private tensors and of private experts
    experts: Experts = field(default_factory=dict)  # private ones, which the consortium did not choose
    controls: Tensors = field(default_factory=dict)  # SCAFFOLD's c_k


class PersonalFiles:
    """`home`/personal/RUN/ROUND.safetensors."""

    def __init__(self, home: Path, run: str) -> None:
        self._folder = home / "personal" / run

    def newest(self, at_most: int) -> Personal | None:
        """What the last round up to `at_most` left; None before the first.

        Raises:
            LedgerError: its file is damaged.
        """
        rounds = [number for number in self._rounds() if number <= at_most]
        return _read(self._path(max(rounds))) if rounds else None

    def keep(self, round_number: int, personal: Personal) -> None:
        """Writes what training in a round led to, atomically and for the owner's eyes alone.

        Raises:
            StorageError: the disk does not take it.
        """
        path = self._path(round_number)
        with must_be_written(path):
            write_file(path, personal_to_bytes(personal), mode=0o600)

    def settle(self, round_number: int, took_part: bool) -> None:
        """Drops what no later round starts from, once a round's update is finished; what went on without this institution never was."""
        if not took_part:
            self._path(round_number).unlink(missing_ok=True)
        rounds = [number for number in self._rounds() if number <= round_number]
        for number in sorted(rounds)[:-1]:
            self._path(number).unlink()

    def _rounds(self) -> list[int]:
        return [int(path.stem) for path in self._folder.glob("*.safetensors") if path.stem.isdigit()]

    def _path(self, round_number: int) -> Path:
        return self._folder / f"{round_number}.safetensors"


def personal_to_bytes(personal: Personal) -> bytes:
    """One safetensors file; the private experts are in an array, because its reader of bytes gives no metadata back."""
    groups = (("tensors", personal.tensors), ("controls", personal.controls))
    arrays: dict[str, NDArray[Any]] = {f"{group}/{name}": np.ascontiguousarray(v) for group, of in groups for name, v in of.items()}
    header = json.dumps([[layer, list(chosen)] for layer, chosen in sorted(personal.experts.items())])
    content: bytes = save(arrays | {"experts": np.frombuffer(header.encode(), np.uint8)})
    return content


def _read(path: Path) -> Personal:
    try:
        arrays = load(path.read_bytes())
        experts = {int(layer): tuple(map(int, chosen)) for layer, chosen in json.loads(arrays["experts"].tobytes())}
        return Personal(_group(arrays, "tensors/"), experts, _group(arrays, "controls/"))
    except (SafetensorError, KeyError, TypeError, ValueError):
        raise LedgerError(f"{path}: what this institution keeps to itself is damaged; restore the file from a backup of its home") from None


def _group(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[np.float32]]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
