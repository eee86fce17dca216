"""One message of every kind that the registry service takes or gives, always the same; a new kind belongs in here."""

from __future__ import annotations

from protocols.acceptance import Acceptance, Withdrawal
from protocols.codec import Message
from protocols.identity import Identity
from protocols.roster import FormerKey, RosterEntry
from protocols.roster_offer import OfferedInstitution, Voucher, rotation
from protocols.service import (
    FileChunk,
    IssuedCertificate,
    JoinAnswer,
    JoinRequest,
    KeptWithdrawal,
    ModelEntry,
    ModelFileRequest,
    ModelList,
    ModelListRequest,
    NowAnswer,
    NowRequest,
    Recorded,
    RenewRequest,
    RosterRequest,
    RotateRequest,
    SpentRequest,
    SpentRun,
)

REQUEST = "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"


def said() -> list[Message]:
    """Requests and answers."""
    ada = Identity("ada", bytes(32))
    join = JoinRequest("ada", bytes(32), ada.public_key, "ecdsa-sha2-nistp384 AA==", REQUEST, b"").signed_by(ada.sign)
    accepted = Acceptance("run", "ab" * 32, "", "ada", "2030-01-01T00:00:00+00:00").signed_by(ada.sign)
    withdrawal = Withdrawal("run", "ada", "no", "2030-01-01T00:00:00+00:00").signed_by(ada.sign)
    entry = ModelEntry("triage", 1, "triage-01020304", "ab" * 32, "2030-02-03T00:00:00+00:00", "", "")
    withdrawn = ModelEntry(
        "triage", 2, "triage-05", "cd" * 32, "2030-02-03T00:00:00+00:00", "2030-02-04T00:00:00+00:00", "codes were wrong"
    )
    models = [ModelListRequest("triage"), ModelList((entry, withdrawn)), ModelFileRequest("triage", 1, "plan.json"), FileChunk(b"{}")]
    joining = [join, JoinAnswer("waiting"), JoinAnswer("approved", CERTIFICATE), RenewRequest(REQUEST), IssuedCertificate(CERTIFICATE)]
    clock: list[Message] = [NowRequest(), NowAnswer("2030-01-01T00:00:00+00:00")]
    spent: list[Message] = [SpentRequest(), SpentRun("triage-01020304", b"{}", 2, "8.0", "1e-05")]
    return [*joining, *_rosters(ada), *models, *clock, *spent, accepted, withdrawal, KeptWithdrawal(("triage 1",))]


def _rosters(ada: Identity) -> list[Message]:
    new = Identity("ada", bytes(31) + b"\1")
    changed = rotation("ada", ada, new)
    voucher = Voucher("ada", new.public_key, "bea", b"").signed_by(Identity("bea", bytes(31) + b"\2").sign)
    offered = OfferedInstitution(RosterEntry("ada", new.public_key), "2030-01-31", "left", (changed,), (voucher,))
    asked = RotateRequest(changed, new.sign(changed.signed()))
    return [RosterRequest(), asked, Recorded(), voucher, offered, FormerKey("ada", ada.public_key, "2030-01-31")]
