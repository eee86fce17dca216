"""Shamir secret sharing (Shamir 1979) of 32-byte secrets over the integers modulo 2^256 + 297, the first prime above 2^256."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from protocols.errors import ProtocolError

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
_DRAW_BYTES = 56  # reduced modulo PRIME with a bias below 2^-190


def split_secret(secret: bytes, threshold: int, members: int, randomness: Callable[[int], bytes]) -> list[bytes]:
    """Shares for members 1 to `members`; any `threshold` of them give the secret, fewer say nothing about it."""
    coefficients = [int.from_bytes(secret, "big")]
    coefficients += [int.from_bytes(randomness(_DRAW_BYTES), "big") % PRIME for _ in range(threshold - 1)]
    return [_evaluate(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in range(1, members + 1)]


def combine_shares(shares: Mapping[int, bytes]) -> bytes:
    """The secret from shares by member number (Lagrange interpolation at 0).

    Raises:
        ProtocolError: the shares do not lie on a polynomial with a 32-byte secret, or one is no number below PRIME.
    """
    if any(len(share) != SHARE_BYTES or int.from_bytes(share, "big") >= PRIME for share in shares.values()):
        raise ProtocolError(f"a share is no number below the prime in {SHARE_BYTES} bytes")
    total = 0
    for x, share in shares.items():
        numerator, denominator = 1, 1
        for other in shares:
            if other != x:
                numerator = numerator * other % PRIME
                denominator = denominator * (other - x) % PRIME
        total += int.from_bytes(share, "big") * numerator * pow(denominator, -1, PRIME)
    total %= PRIME
    if total >= 2 ** (8 * SECRET_BYTES):
        raise ProtocolError("the shares do not belong together")
    return total.to_bytes(SECRET_BYTES, "big")


def _evaluate(coefficients: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value
