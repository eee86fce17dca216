"""What a training depends on, as one hash: two trainings of equal hashes take the same steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from client.dataset import Dataset
from model.training import Execution


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...


def fingerprint(facts: Mapping[str, Any], *groups: Mapping[str, NDArray[Any]]) -> bytes:
    """SHA-256 of facts that JSON can hold, and of groups of arrays by name, type, shape and bytes."""
    digest = hashlib.sha256(b"consortium training 1\0")
    _add(digest, json.dumps(facts, sort_keys=True).encode())
    for group in groups:
        _add(digest, b"%d arrays" % len(group))
        for name, values in sorted(group.items()):
            _add_array(digest, name, values)
    return digest.digest()


def records_fingerprint(dataset: Dataset) -> bytes:
    """Of the examples of one side in their order, and their groups."""
    digest = hashlib.sha256(b"consortium records 1\0")
    for number, values in enumerate(_arrays(dataset)):
        _add_array(digest, str(number), values)
    _add(digest, json.dumps(dataset.groups).encode())
    return digest.digest()


def computing(execution: Execution, device: torch.device) -> dict[str, Any]:
    """What else decides about the last bit of a step."""
    how = {"dtype": str(execution.compute_dtype), "micro_batch": execution.micro_batch, "checkpointing": execution.checkpointing}
    return how | {"device": str(device), "threads": torch.get_num_threads(), "torch": torch.__version__}


def _arrays(dataset: Dataset) -> Iterator[NDArray[Any]]:
    for example in dataset.examples:
        yield from (example.tokens, example.learnt, np.array([example.prompt_length]))


def _add_array(digest: _Hash, name: str, values: NDArray[Any]) -> None:
    held = np.ascontiguousarray(values)
    _add(digest, json.dumps([name, held.dtype.str, held.shape]).encode())
    _add(digest, held.data.cast("B") if held.size else b"")


def _add(digest: _Hash, data: bytes | memoryview) -> None:
    """Behind its length, so that no two sequences of parts are the same bytes."""
    digest.update(len(data).to_bytes(8, "little"))
    digest.update(data)
