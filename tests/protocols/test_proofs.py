"""What is shown as proof and lacks what a proof holds is answered with a sentence, whoever signed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from protocols.epoch.checks import certified
from protocols.errors import ProtocolError
from protocols.identity import Envelope, seal_envelope
from protocols.proofs import ContradictionProof, WrongEnvelopeProof, WrongSecretProof, WrongShareProof, WrongTotalProof
from tests.fuzz import evidence
from tests.fuzz.samples import conversation
from tests.protocols.secagg.cohort import Sum

Accusation = Callable[[], str]


def accusations(done: Sum) -> dict[str, Accusation]:
    """Each calls `accuse` on a proof that was altered by someone who holds the keys it takes."""
    roster, key = done.cohort.roster, done.cohort.coordinator.public_key
    total, _ = evidence.proofs_against_coordinators(done)
    share, secret, envelope = evidence.proofs_against_members(done)
    assert isinstance(total, WrongTotalProof) and isinstance(share, WrongShareProof)
    assert isinstance(secret, WrongSecretProof) and isinstance(envelope, WrongEnvelopeProof)
    empty, junk = evidence.requested(done, "update/query.transcript", {}), sealed(done, "coordinator", "update/query.transcript", b"junk")
    request = evidence.requested(done, "update/train.sum", {"manifest": done.manifest.to_bytes()})
    unanswered, stranger = (sealed(done, name, "update/query.unmask", b"") for name in ("ada", "ems"))
    named = replace(secret, parts=dict(secret.parts) | {"ems": secret.parts["ada"]}, shares=dict(secret.shares) | {"ems": b""})
    return {
        "a commitment to nothing": lambda: replace(total, committed=empty).accuse(roster, key),
        "a commitment in junk": lambda: replace(total, committed=junk).accuse(roster, key),
        "a request in junk": lambda: ContradictionProof(request, junk).accuse(key),
        "an answer without an answer": lambda: replace(share, answer=unanswered).accuse(roster, key),
        "an answer by one outside the epoch": lambda: replace(share, answer=stranger).accuse(roster, key),
        "a share of one outside the epoch": lambda: named.accuse(roster, key),
        "an envelope of a slot beyond the last": lambda: replace(envelope, slot=2**40).accuse(roster, key),
        "a secret of a slot beyond the last": lambda: replace(secret, slot=2**40).accuse(roster, key),
    }


def test_what_lacks_a_part_proves_nothing() -> None:
    assert [case for case, accuse in accusations(conversation()).items() if not is_refused(accuse)] == []


def is_refused(accuse: Accusation) -> bool:
    try:
        accuse()
    except ProtocolError:
        return True
    return False


def test_a_slot_that_its_member_committed_to_and_never_confirmed_proves_nothing() -> None:
    """The header's signer put commitments of a second slot into it, so that its recovery secret would be found."""
    done = conversation()
    _, _, proof = evidence.proofs_against_members(done)
    assert isinstance(proof, WrongEnvelopeProof)
    more = replace(proof.header, commitments=2 * proof.header.commitments).signed_by(done.cohort.identities["dom"].sign)
    with pytest.raises(ProtocolError):
        replace(proof, header=more, slot=1).accuse(done.cohort.roster, done.cohort.coordinator.public_key)


@pytest.mark.parametrize("shown", ["in the setup's place", "as the setup's"])
def test_a_dealer_that_signs_a_second_header_frames_nobody(shown: str) -> None:
    """The dealer commits afterwards to other shares than those that the accused was dealt and opened."""
    done = conversation()
    proof, *_ = evidence.proofs_against_members(done)
    assert isinstance(proof, WrongShareProof) and (proof.accused, proof.header.sender) == ("ada", "dom")
    part = replace(proof.part, commitments=bytes(len(proof.part.commitments)))
    place = 32 * (proof.epoch.number("ada") - 1)
    hashes = proof.header.part_hashes[:place] + part.hash + proof.header.part_hashes[place + 32 :]
    header = replace(proof.header, part_hashes=hashes).signed_by(done.cohort.identities["dom"].sign)
    headers = proof.headers if shown == "in the setup's place" else {**proof.headers, "dom": header.hash}
    with pytest.raises(ProtocolError, match="not those of the setup|signature"):
        replace(proof, header=header, part=part, headers=headers).accuse(done.cohort.roster, done.cohort.coordinator.public_key)


def test_nobody_else_can_sign_what_speaks_against_a_dealer() -> None:
    """Whatever another member signs in the dealer's name, or of its own in the dealer's place, accuses nobody but itself."""
    done = conversation()
    _, secret, envelope = evidence.proofs_against_members(done)
    assert isinstance(secret, WrongSecretProof) and isinstance(envelope, WrongEnvelopeProof)
    sign, mine, said = done.cohort.identities["cor"].sign, done.setup.shares["cor"], done.setup.confirmations["dom"]
    forged = replace(mine.header, sender="dom").signed_by(sign)
    sealed_otherwise = replace(said, envelopes=tuple(bytes(len(one)) for one in said.envelopes))
    signature = sign(certified(done.cohort.epoch, said.setup_hash, sealed_otherwise.published))
    parts = {name: mine.parts[done.cohort.epoch.number(name) - 1] for name in secret.parts}
    for framed in (
        replace(secret, header=forged, parts=parts),
        replace(secret, parts=parts),
        replace(envelope, header=forged),
        replace(envelope, confirmation=done.setup.confirmations["cor"]),
        replace(envelope, confirmation=sealed_otherwise),
        replace(envelope, confirmation=replace(sealed_otherwise, signature=signature)),
    ):
        assert framed.accused == "dom"
        assert is_refused(partial(framed.accuse, done.cohort.roster, done.cohort.coordinator.public_key)), framed


def sealed(done: Sum, sender: str, stage: str, payload: bytes) -> bytes:
    identity = done.cohort.coordinator if sender == "coordinator" else done.cohort.identities[sender]
    return seal_envelope(identity, Envelope(sender, "ada", "run", 1, 1, stage, done.manifest.hash, 0, payload))
