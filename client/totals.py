"""A large total comes in several messages: its parts wait on disk for the last one, with which the whole is looked at."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.storage import must_be_written
from protocols.errors import Refusal
from protocols.files import make_folder
from protocols.lanes import LaneFormat
from protocols.secagg import bytes_of_part, parts_of


@dataclass(frozen=True, slots=True)
class PartialTotal:
    """The written total of a run's sum as far as it came, in one file below the ledger's `home`; any part may come again."""

    home: Path
    run: str
    lanes: LaneFormat

    def keep(self, part: int, written: NDArray[Any]) -> None:
        """Writes a part, uint8, to its place.

        Raises:
            Refusal: it is no part of such a total. StorageError: it cannot be written.
        """
        if not 0 <= part < parts_of(self.lanes):
            raise Refusal(f"a total of these lanes has no part {part}; both sides must run the same version")
        place = bytes_of_part(self.lanes, part)
        if written.dtype != np.uint8 or written.shape != (place.stop - place.start,):
            raise Refusal(f"part {part} of a total does not have the length that its manifest asks for")
        with must_be_written(self._path):
            make_folder(self._path.parent, 0o700)
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.seek(place.start)
                file.write(written.data)

    def whole(self, last: NDArray[Any]) -> NDArray[Any]:
        """The written total, uint8 [bytes], with its last part; nothing of it is checked."""
        parts = parts_of(self.lanes)
        if parts < 2:
            return last
        self.keep(parts - 1, last)
        # A longer one is there where a node died before it could remove the total of the sum before.
        return np.memmap(self._path, np.uint8, "r", shape=(self.lanes.nbytes,))

    def remove(self) -> None:
        """Removes what came."""
        self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return self.home / "totals" / f"{self.run}.u8"
