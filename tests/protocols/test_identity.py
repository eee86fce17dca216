"""A signature is one key's over exactly these bytes, and an envelope's covers everything that decides what it may mean."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from protocols.errors import MalformedMessage, SignatureError
from protocols.identity import Envelope, Identity, _Sealed, open_envelope, open_envelope_of, seal_envelope, verify
from protocols.roster import Roster, RosterEntry

ADA, BIO = Identity("ada", bytes(32)), Identity("bio", b"\1" * 32)
ROSTER = Roster((RosterEntry("ada", ADA.public_key), RosterEntry("bio", BIO.public_key)))
ENVELOPE = Envelope("ada", "coordinator", "run", 1, 1, "train.sum", bytes(32), 0, b"payload")
CHANGED = Envelope("bio", "bio", "nur", 2, 2, "train.open", b"\1" * 32, 1, b"payloae")


@pytest.mark.parametrize("name", [field.name for field in fields(Envelope)])
def test_no_field_of_a_signed_envelope_can_be_changed(name: str) -> None:
    sealed = _Sealed.from_bytes(seal_envelope(ADA, ENVELOPE))
    altered = replace(sealed, envelope=replace(ENVELOPE, **{name: getattr(CHANGED, name)})).to_bytes()
    with pytest.raises(SignatureError):
        open_envelope(altered, ROSTER)
    with pytest.raises(SignatureError):
        open_envelope_of(altered, ADA.public_key)


def test_an_envelope_opens_for_its_sender_s_key_alone() -> None:
    data = seal_envelope(ADA, ENVELOPE)
    assert open_envelope_of(data, ADA.public_key) == open_envelope(data, ROSTER) == ENVELOPE
    with pytest.raises(SignatureError, match="ada"):
        open_envelope_of(data, BIO.public_key)
    with pytest.raises(MalformedMessage):
        open_envelope(data + b"\0", ROSTER)


def test_an_envelope_s_signature_is_no_signature_on_its_bytes_alone() -> None:
    bare = _Sealed(ENVELOPE, ADA.sign(ENVELOPE.to_bytes())).to_bytes()
    with pytest.raises(SignatureError):
        open_envelope(bare, ROSTER)


def test_a_signature_holds_for_its_key_and_bytes_alone() -> None:
    signature = ADA.sign(b"data")
    verify(ADA.public_key, b"data", signature, "ada")
    wrong = [(BIO.public_key, b"data", signature), (ADA.public_key, b"dat", signature), (ADA.public_key, b"data", BIO.sign(b"data"))]
    wrong += [(ADA.public_key, b"data", cut) for cut in (b"", signature[:-1], signature + b"\0")] + [(b"short", b"data", signature)]
    for key, data, given in wrong:
        with pytest.raises(SignatureError, match="not that of ada"):
            verify(key, data, given, "ada")


def test_a_key_is_in_no_representation_of_its_identity() -> None:
    seed = bytes(range(32))
    shown = repr(Identity("ada", seed)) + str(Identity("ada", seed))
    assert seed.hex() not in shown and repr(seed) not in shown


@pytest.mark.parametrize("key", ["01" + "00" * 31, "01" + "00" * 30 + "80", "ee" + "ff" * 30 + "7f", "ee" + "ff" * 31])
def test_a_key_under_which_anyone_can_sign_is_none(key: str) -> None:
    with pytest.raises(SignatureError, match="anyone can sign"):
        verify(bytes.fromhex(key), b"any message", b"\1" + bytes(63), "ada")
