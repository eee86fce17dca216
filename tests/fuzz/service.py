"""One message of every kind that the registry service takes or gives, always the same; a new kind belongs in here."""

from __future__ import annotations

from protocols.codec import Message
from protocols.identity import Identity
from protocols.roster import FormerKey, RosterEntry
from protocols.roster_offer import OfferedInstitution, Voucher, rotation
from protocols.service import IssuedCertificate, JoinAnswer, JoinRequest, Recorded, RenewRequest, RosterRequest, RotateRequest

REQUEST = "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"


def said() -> list[Message]:
    """Requests and answers."""
    ada = Identity("ada", bytes(32))
    join = JoinRequest("ada", bytes(32), ada.public_key, "ecdsa-sha2-nistp384 AA==", REQUEST, b"").signed_by(ada.sign)
    return [
        join,
        JoinAnswer("waiting"),
        JoinAnswer("approved", CERTIFICATE),
        RenewRequest(REQUEST),
        IssuedCertificate(CERTIFICATE),
        *_rosters(ada),
    ]


def _rosters(ada: Identity) -> list[Message]:
    new = Identity("ada", bytes(31) + b"\1")
    changed = rotation("ada", ada, new)
    voucher = Voucher("ada", new.public_key, "bea", b"").signed_by(Identity("bea", bytes(31) + b"\2").sign)
    offered = OfferedInstitution(RosterEntry("ada", new.public_key), "2030-01-31", "left", (changed,), (voucher,))
    asked = RotateRequest(changed, new.sign(changed.signed()))
    return [RosterRequest(), asked, Recorded(), voucher, offered, FormerKey("ada", ada.public_key, "2030-01-31")]
