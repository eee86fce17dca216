"""Shamir secret sharing (Shamir 1979) of 32-byte secrets over the integers modulo 2^256 + 297, the first prime above 2^256."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

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
    factors = _lagrange(tuple(shares))
    total = sum(int.from_bytes(share, "big") * factor for share, factor in zip(shares.values(), factors, strict=True)) % PRIME
    if total >= 2 ** (8 * SECRET_BYTES):
        raise ProtocolError("the shares do not belong together")
    return total.to_bytes(SECRET_BYTES, "big")


@lru_cache(maxsize=4)  # one sum opens hundreds of secrets from the shares of one set of members
def _lagrange(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Each member's factor in the interpolation at 0."""
    return tuple(_factor(number, numbers) for number in numbers)


def _factor(number: int, numbers: tuple[int, ...]) -> int:
    numerator, denominator = 1, 1
    for other in numbers:
        if other != number:
            numerator = numerator * other % PRIME
            denominator = denominator * (other - number) % PRIME
    return numerator * pow(denominator, -1, PRIME) % PRIME


def _evaluate(coefficients: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value
