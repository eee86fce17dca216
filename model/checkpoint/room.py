"""Memory that runs out while a network is opened, told in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from model.checkpoint.inventory import held_bytes
from model.errors import CheckpointError
from model.sizes import shown_size


@contextmanager
def room_for(directory: Path, dtype: torch.dtype | None, choosable: bool = True) -> Iterator[None]:
    """Turns PyTorch's refusal to allocate, on the host or a GPU, into what a checkpoint's weights take in `dtype` (None: as stored).

    Raises:
        CheckpointError: memory ran out within; it advises another `--dtype` where the command has that choice.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # The host's allocator has no exception type of its own.
        if not (isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)):
            raise
        sizes = {name: shown_size(size) for name, size in held_bytes(directory).items()}
        kind = "stored" if dtype is None else str(dtype).removeprefix("torch.")
        others = ", ".join(f"{name} takes {sizes[name]}" for name in ("stored", "bfloat16"))
        advice = f"give another --dtype ({others}), or " if choosable and kind == "float32" else ""
        raise CheckpointError(
            f"Memory is too small for {directory}, whose weights take {sizes[kind]} ({kind}): {advice}take a larger machine"
        ) from None
