"""One message of every kind that the registry service takes or gives, always the same; a new kind belongs in here."""

from __future__ import annotations

from protocols.codec import Message
from protocols.identity import Identity
from protocols.service import IssuedCertificate, JoinAnswer, JoinRequest, RenewRequest

REQUEST = "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"


def said() -> list[Message]:
    """Requests and answers."""
    ada = Identity("ada", bytes(32))
    join = JoinRequest("ada", bytes(32), ada.public_key, "ecdsa-sha2-nistp384 AA==", REQUEST, b"").signed_by(ada.sign)
    return [join, JoinAnswer("waiting"), JoinAnswer("approved", CERTIFICATE), RenewRequest(REQUEST), IssuedCertificate(CERTIFICATE)]
