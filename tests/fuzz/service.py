"""One message of every kind that the registry service takes or gives, always the same; a new kind belongs in here."""

from __future__ import annotations

from protocols.acceptance import Acceptance, Withdrawal
from protocols.codec import Message
from protocols.identity import Identity
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
    RenewRequest,
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
    return [*joining, *models, *clock, accepted, withdrawal, KeptWithdrawal(("triage 1",))]
