"""Frobenius norms of products of thin factors, from triangular ones: the product itself may be huge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def product_norm(b: Array, a: Array) -> float:
    """||BA|| of B [out, r] and A [r, in]."""
    return float(np.linalg.norm(np.linalg.qr(b)[1] @ np.linalg.qr(a.T)[1].T))


def difference_norm(after: tuple[Array, Array], before: tuple[Array, Array]) -> float:
    """||B'A' - BA|| of two pairs (B, A), whatever their ranks."""
    return product_norm(np.concatenate((after[0], -before[0]), axis=1), np.concatenate((after[1], before[1])))


def orthonormality(rows: Array) -> float:
    """Largest |element| of R R^T - I: zero where the rows are orthonormal."""
    return float(np.abs(rows @ rows.T - np.eye(len(rows))).max(initial=0.0))
