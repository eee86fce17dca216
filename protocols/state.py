"""The federated state: adapter tensors, server momentum and chosen experts; its hash and its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from protocols.errors import StateError
from protocols.files import write_file

Tensors: TypeAlias = Mapping[str, NDArray[np.float32]]
Experts: TypeAlias = Mapping[int, tuple[int, ...]]  # layer -> experts adapted in it


@dataclass(frozen=True, slots=True)
class State:
    """What the next sum starts from; equal bits at every party. `round` is the last one whose update is in it."""

    base_sha256: str
    round: int
    tensors: Tensors
    experts: Experts = field(default_factory=dict)
    momentum: Tensors = field(default_factory=dict)


def state_hash(state: State) -> bytes:
    """SHA-256 over base hash, round, experts and every tensor's name, type, shape and little-endian bytes, names sorted."""
    digest = hashlib.sha256(b"consortium state 1\0")
    _update(digest, _header(state))
    for group, tensors in (("tensors", state.tensors), ("momentum", state.momentum)):
        for name in sorted(tensors):
            values = np.ascontiguousarray(tensors[name], dtype="<f4")
            _update(digest, json.dumps([group, name, "F32", list(values.shape)]).encode())
            _update(digest, values.data.cast("B") if values.size else b"")
    return digest.digest()


def inputs_hash(state: State) -> bytes:
    """Of what an institution's work reads of a state. Round and momentum are left out: two that differ in them alone give one vector."""
    return state_hash(replace(state, round=0, momentum={}))


def save_state(state: State, path: Path) -> None:
    """One safetensors file, written atomically."""
    write_file(path, state_to_bytes(state))


def load_state(path: Path) -> State:
    """Reads what `save_state` wrote.

    Raises:
        StateError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata()["state"].encode()
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise StateError(f"{path}: not a readable state; restore the file, or start the run again from a new directory") from None
    return state_from_arrays(header, values)


def state_to_bytes(state: State) -> bytes:
    """The content of a state file."""
    content: bytes = save(state_arrays(state), metadata={"state": _header(state).decode()})
    return content


def state_arrays(state: State) -> dict[str, NDArray[np.float32]]:
    """All tensors under one flat naming, for a file or a message."""
    groups = (("tensors", state.tensors), ("momentum", state.momentum))
    return {f"{group}/{name}": np.ascontiguousarray(values) for group, tensors in groups for name, values in tensors.items()}


def state_header(state: State) -> bytes:
    """What `state_arrays` leaves out, as JSON."""
    return _header(state)


def state_from_arrays(header: bytes, arrays: Mapping[str, NDArray[np.float32]]) -> State:
    """Puts a state together again.

    Raises:
        StateError: header or arrays are not those of a state, or the header is not as `state_header` writes it.
    """
    try:
        fields = json.loads(header)
        experts = {int(layer): tuple(int(e) for e in chosen) for layer, chosen in fields["experts"]}
        groups: dict[str, dict[str, NDArray[np.float32]]] = {"tensors": {}, "momentum": {}}
        for name, values in arrays.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = _reals(values)
        state = State(str(fields["base_sha256"]), int(fields["round"]), groups["tensors"], experts, groups["momentum"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        state = None
    if state is None or _header(state) != header:
        raise StateError("the state that was received is not in the expected form; both sides must run the same version")
    return state


def _reals(values: NDArray[Any]) -> NDArray[np.float32]:
    if values.dtype != np.float32:
        raise TypeError(values.dtype)
    return values


def _header(state: State) -> bytes:
    experts = [[layer, list(state.experts[layer])] for layer in sorted(state.experts)]
    return json.dumps({"base_sha256": state.base_sha256, "round": state.round, "experts": experts}, sort_keys=True).encode()


def _update(digest: hashlib._Hash, part: bytes | memoryview) -> None:
    digest.update(len(part).to_bytes(8, "little"))
    digest.update(part)
