"""Sketches of sums of matrices: public random matrices, and the checked proposal of an orthonormal range.

A sum X [out, in] that nobody may see in parts is summed as Y = X Omega [out, s]; with Q an orthonormal basis of the columns of Y,
Q (Q^T X) is X where s is not below its rank, and close to the best approximation otherwise (Halko, Martinsson and Tropp 2011,
section 4). A QR decomposition differs between machines in its last bits, so the coordinator proposes Q and every node checks it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.aggregation.base import Tensor
from protocols.aggregation.products import orthonormality
from protocols.errors import ProposalError
from protocols.state import State, Tensors

TOLERANCE = 1e-6
OVERSAMPLING = 8  # columns beyond the rank (Halko et al., section 4.2)

Array = NDArray[np.float64]
Proposal = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Module:
    """A module outside routed experts that LoRA adapts, and the columns of its sketch."""

    name: str
    rank: int
    out: int
    width: int  # inputs
    size: int  # s

    @property
    def a(self) -> str:
        return f"{self.name}.lora_A.weight"

    @property
    def b(self) -> str:
        return f"{self.name}.lora_B.weight"


def modules(layout: Sequence[Tensor], sketch_size: int) -> tuple[Module, ...]:
    """Modules whose rank fits their sketch, of `sketch_size` columns (0: its rank + 8) but no more than the matrix has.

    A sketch of fewer columns than the rank could not hold the module's own factors.
    """
    shapes = {tensor.name: tensor.shape for tensor in layout if tensor.expert is None}
    found = []
    for tensor in layout:
        if tensor.kind == "lora_A" and tensor.expert is None:
            name, (rank, width) = tensor.name.removesuffix(".lora_A.weight"), tensor.shape
            out = shapes[f"{name}.lora_B.weight"][0]
            found.append(Module(name, rank, out, width, min(sketch_size or rank + OVERSAMPLING, out, width)))
    return tuple(module for module in found if module.rank <= module.size)


def sketching_matrix(purpose: str, shape: tuple[int, int]) -> Array:
    """Uniform of mean 0 and variance 1, float64 [in, columns], for one public purpose; raw Philox words, so the same bits everywhere."""
    key = hashlib.sha256(f"consortium sketch\0{purpose}".encode()).digest()[:16]
    words = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(shape[0] * shape[1])
    unit = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53  # [0, 1), 53 bits
    values: Array = ((2.0 * unit - 1.0) * np.sqrt(3.0)).reshape(shape)
    return values


def propose_ranges(state: State) -> Proposal:
    """An orthonormal basis Q [out, s] for every `sketch/MODULE` [out, s] of the state's basis, as `basis/range/MODULE`."""
    return {f"basis/range/{name}": np.linalg.qr(sketch.astype(np.float64))[0].astype(np.float32) for name, sketch in _sketches(state)}


def check_ranges(state: State, proposed: Tensors) -> None:
    """Whether every sketch, and nothing else, has a range that holds it.

    Raises:
        ProposalError: a range that is missing or misshapen, or a figure above 1e-6: of Q^T Q - I by element, of what is left of
            the sketch outside Q by Frobenius norm, relative to the sketch's.
    """
    wanted = {f"basis/range/{name}": sketch for name, sketch in _sketches(state)}
    check_names(proposed, wanted)
    for key, sketch in wanted.items():
        q, columns = checked_array(proposed, key, sketch.shape).astype(np.float64), sketch.astype(np.float64)
        left = float(np.linalg.norm(columns - q @ (q.T @ columns)))
        check_figure(key, "the orthonormality of its columns", orthonormality(q.T), TOLERANCE)
        check_figure(key, "the sketch's span", left, TOLERANCE * float(np.linalg.norm(columns)))


def check_names(proposed: Tensors, wanted: Iterable[str]) -> None:
    """Raises ProposalError unless exactly the `wanted` arrays are proposed."""
    for name in sorted(set(wanted) ^ proposed.keys()):
        verb = "holds" if name in proposed else "lacks"
        raise ProposalError(f"the proposal {verb} {name}; the coordinator must publish the one that is due")


def checked_array(proposed: Tensors, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Raises ProposalError unless it holds finite float32 values of this shape."""
    values = proposed[name]
    if values.dtype != np.float32 or values.shape != shape or not np.isfinite(values).all():
        raise ProposalError(f"the proposal's {name} must hold finite float32 values of shape {shape}")
    return values


def check_figure(name: str, what: str, figure: float, allowed: float) -> None:
    """Raises ProposalError if a figure is above what is allowed, or not a number."""
    if not figure <= allowed:
        raise ProposalError(f"the proposal for {name} misses {what} by {figure:.2g}, and {allowed:.2g} is allowed")


def _sketches(state: State) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, values in sorted(state.basis.items()):
        if name.startswith("sketch/"):
            yield name.removeprefix("sketch/"), values
