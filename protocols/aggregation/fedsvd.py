"""B is averaged, then A becomes the right singular vectors of BA (FedSVD, Lee et al. 2025, section 3): A follows B, and noise enters once.

The refresh is the checked proposal of `protocols.aggregation.rebalance`, due after every update: orthonormal rows of A bound
the norm of B's gradient.
"""

from __future__ import annotations

from protocols.aggregation.ffa import FFA


class FedSVD(FFA):
    """Trains what FFA trains; the coordinates change between rounds."""
