"""Which node sends a request: its key is a participant's, and it signed the time with it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from coordinator.fence.head import Refused
from coordinator.fence.routes import PUBLIC_KEY, SIGNATURE, TIMESTAMP

# The SuperLink's own tolerances, in seconds.
_OLDEST, _EARLIEST = 305.0, -5.0
# A SuperNode tries again after 503 and ends itself after 401; and whoever asks does not learn whose keys are known.
_NOT_NOW = 503


def admitted_node(headers: Mapping[bytes, bytes], is_admitted: Callable[[str], bool], now: float) -> str:
    """The public key (OpenSSH's one line, without comment) of the participant that sent `headers`; `now` in Unix seconds.

    The SuperLink checks the signature too, but only after it has read the whole body; here it comes before, so that a key
    that somebody has seen neither fills the SuperLink's memory nor uses up its owner's rate.

    Raises:
        Refused: 400 if the headers cannot be read, 503 if the key is no participant's or the signature does not hold.
    """
    try:
        public = load_pem_public_key(base64.b64decode(headers[PUBLIC_KEY], validate=True))
        signature = base64.b64decode(headers[SIGNATURE], validate=True)
        age = now - datetime.fromisoformat(headers[TIMESTAMP].decode("ascii")).timestamp()
    except (ValueError, OverflowError, UnsupportedAlgorithm):
        raise Refused(400) from None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise Refused(400)
    key = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    if not is_admitted(key) or not _EARLIEST < age < _OLDEST or not _signed(public, headers[TIMESTAMP], signature):
        raise Refused(_NOT_NOW)
    return key


def _signed(public: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> bool:
    try:
        public.verify(signature, message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
