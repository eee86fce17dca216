"""The federated state: adapter tensors, server momentum and chosen experts; its hash and its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from protocols.errors import StateError
from protocols.files import write_pieces
from protocols.tensor_file import mapped_tensors, tensor_pieces

Tensors: TypeAlias = Mapping[str, NDArray[np.float32]]
Experts: TypeAlias = Mapping[int, tuple[int, ...]]  # layer -> experts adapted in it

GROUPS = ("tensors", "momentum", "second_moments", "controls", "basis")


@dataclass(frozen=True, slots=True)
class PreRound:
    """What a round's sum of touched parts allows its update (`protocols.parts`)."""

    kept: Experts  # layer -> experts that enough institutions trained; of the others nothing is sent and nothing changes
    members: tuple[str, ...]  # who was in that sum, sorted: the update's set lies within
    threshold: int  # of that sum's epoch: the update's set is not smaller
    rank: int | None = None  # leading LoRA slices that enough institutions hold; None where all train the same ranks


@dataclass(frozen=True, slots=True)
class State:
    """What the next sum starts from; equal bits at every party. `round` is the last one whose update is in it.

    `pre_round` is None until the first pre-round, and is replaced by the next round's.
    """

    base_sha256: str
    round: int
    tensors: Tensors
    experts: Experts = field(default_factory=dict)
    momentum: Tensors = field(default_factory=dict)  # of the server's optimiser
    second_moments: Tensors = field(default_factory=dict)  # of the server's optimiser, where it is adam or yogi
    controls: Tensors = field(default_factory=dict)  # SCAFFOLD's variate of all institutions
    basis: Tensors = field(default_factory=dict)  # what a round's second sum is projected on
    pre_round: PreRound | None = None

    def group(self, name: str) -> Tensors:
        """The tensors of one of GROUPS."""
        tensors: Tensors = getattr(self, name)
        return tensors


def state_hash(state: State) -> bytes:
    """SHA-256 over base hash, round, experts, pre-round and every tensor's name, type, shape and little-endian bytes, names sorted."""
    digest = hashlib.sha256(b"consortium state 1\0")
    _update(digest, _header(state))
    for group in GROUPS:
        for name, tensor in sorted(state.group(group).items()):
            values = np.ascontiguousarray(tensor, dtype="<f4")
            _update(digest, json.dumps([group, name, "F32", list(values.shape)]).encode())
            _update(digest, values.data.cast("B") if values.size else b"")
    return digest.digest()


def inputs_hash(state: State) -> bytes:
    """Of what an institution's training and measuring read of a state. Two that differ in the rest alone give one vector.

    Round and moments are the rest, and so is the pre-round: which parts are zeroed makes no new vector of the others.
    """
    return state_hash(replace(state, round=0, momentum={}, second_moments={}, pre_round=None))


def save_state(state: State, path: Path) -> None:
    """One safetensors file, written atomically."""
    write_pieces(path, _pieces(state))


def load_state(path: Path) -> State:
    """What `save_state` wrote; its tensors are read from the file as they are used.

    Raises:
        StateError: the file is missing or damaged.
    """
    try:
        metadata, values = mapped_tensors(path)
        header = metadata["state"].encode()
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise StateError(f"{path}: not a readable state; restore the file, or start the run again from a new directory") from None
    return state_from_arrays(header, values)


def state_to_bytes(state: State) -> bytes:
    """The content of a state file."""
    return b"".join(_pieces(state))


def _pieces(state: State) -> Iterator[bytes | memoryview]:
    return tensor_pieces(state_arrays(state), {"state": _header(state).decode()})


def state_arrays(state: State) -> dict[str, NDArray[np.float32]]:
    """All tensors under one flat naming, for a file or a message."""
    return {f"{group}/{name}": np.ascontiguousarray(values) for group in GROUPS for name, values in state.group(group).items()}


def with_arrays(state: State, arrays: Mapping[str, NDArray[np.float32]]) -> State:
    """The state with these arrays in it, named as by `state_arrays`; all others stay."""
    changes: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, values in arrays.items():
        group, _, rest = name.partition("/")
        changes.setdefault(group, dict(state.group(group)))[rest] = values
    return replace(state, **changes)  # type: ignore[arg-type]


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
        experts = _experts(fields["experts"])
        groups: dict[str, dict[str, NDArray[np.float32]]] = {group: {} for group in GROUPS}
        for name, values in arrays.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = _reals(values)
        before = _pre_round(fields["pre_round"]) if "pre_round" in fields else None
        state = State(str(fields["base_sha256"]), int(fields["round"]), experts=experts, pre_round=before, **groups)
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
    fields: dict[str, Any] = {"base_sha256": state.base_sha256, "round": state.round, "experts": _listed(state.experts)}
    if state.pre_round is not None:
        before = state.pre_round
        fields["pre_round"] = {"kept": _listed(before.kept), "members": list(before.members), "threshold": before.threshold}
        if before.rank is not None:
            fields["pre_round"]["rank"] = before.rank
    return json.dumps(fields, sort_keys=True).encode()


def _listed(experts: Experts) -> list[Any]:
    return [[layer, list(experts[layer])] for layer in sorted(experts)]


def _experts(listed: Any) -> dict[int, tuple[int, ...]]:
    return {int(layer): tuple(int(expert) for expert in chosen) for layer, chosen in listed}


def _pre_round(fields: Any) -> PreRound:
    members = tuple(str(name) for name in fields["members"])
    return PreRound(_experts(fields["kept"]), members, int(fields["threshold"]), int(fields["rank"]) if "rank" in fields else None)


def _update(digest: hashlib._Hash, part: bytes | memoryview) -> None:
    digest.update(len(part).to_bytes(8, "little"))
    digest.update(part)
