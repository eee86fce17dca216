"""What passes the fence: exact methods, paths and headers of flwr 1.41, and how long a body may be.

A test compares these lists with the installed flwr. Nothing here is matched by prefix or after decoding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

# Flower cuts arrays into objects of 5 MiB, but sends the bytes of a ConfigRecord whole; messages are of at most 32 MB.
OBJECT_BYTES = 40 * 2**20
CALL_BYTES = 2**20

PULL_MESSAGES = b"/v1/fleet/pull-messages"

# (method, path as sent) -> the longest body in bytes.
ROUTES: Mapping[tuple[str, bytes], int] = MappingProxyType(
    {
        ("POST", b"/v1/fleet/activate-node"): CALL_BYTES,
        ("POST", b"/v1/fleet/deactivate-node"): CALL_BYTES,
        ("POST", b"/v1/fleet/send-node-heartbeat"): CALL_BYTES,
        ("POST", PULL_MESSAGES): CALL_BYTES,
        ("POST", b"/v1/fleet/push-messages"): CALL_BYTES,
        ("POST", b"/v1/fleet/get-run"): CALL_BYTES,
        ("POST", b"/v1/fleet/get-fab"): CALL_BYTES,
        ("POST", b"/v1/fleet/push-object"): OBJECT_BYTES,
        ("POST", b"/v1/fleet/pull-object"): CALL_BYTES,
        ("POST", b"/v1/fleet/confirm-message-received"): CALL_BYTES,
    }
)

# A SuperNode calls these two only when it was given no key; the operator registers the keys of participants.
REFUSED = frozenset({("POST", b"/v1/fleet/register-node"), ("POST", b"/v1/fleet/unregister-node")})

PUBLIC_KEY = b"flwr-public-key"
SIGNATURE = b"flwr-signature"
TIMESTAMP = b"flwr-timestamp"

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{1,1024}={0,2}")
_WORD = re.compile(rb"[A-Za-z0-9._+-]{1,64}")

REQUIRED_HEADERS: Mapping[bytes, re.Pattern[bytes]] = MappingProxyType(
    {
        b"content-type": re.compile(rb"application/protobuf"),
        b"content-length": re.compile(rb"[0-9]{1,10}"),
        PUBLIC_KEY: _BASE64,
        SIGNATURE: _BASE64,
        TIMESTAMP: re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00"),
    }
)
OPTIONAL_HEADERS: Mapping[bytes, re.Pattern[bytes]] = MappingProxyType(
    {b"flwr-package-name": _WORD, b"flwr-package-version": _WORD, b"flwr-component-name": _WORD}
)
ANSWER_HEADERS = frozenset({b"content-type", b"content-length", b"flwr-version-incompatibility-message"})
