"""The suites of primitives that an epoch may use; what both have: HKDF-SHA256, AES-256-GCM, AES-256-CTR and Ed25519."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Suite: TypeAlias = Literal["SA-1", "SA-1-X25519"]  # X25519 with ML-KEM-768; X25519 alone
SUITES: tuple[Suite, ...] = get_args(Suite)
SUITE: Suite = "SA-1"
