"""A member that is provably at fault: what the coordinator keeps convinces others, and no byte of it can be changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from coordinator.blame import Blame
from protocols.errors import ConsortiumError
from protocols.identity import Identity
from protocols.parties import Parties
from protocols.proofs import MemberProof, WrongEnvelopeProof, WrongShareProof, read_member_proof
from protocols.roster import Roster, RosterEntry
from tests.federation.federation import Federation
from tests.federation.test_malformed_members import (
    HONEST,
    NAMES,
    _altered_answer,
    changed_confirmation,
    first_sum,
    let_lie,
    make_federation,
    resigned,
    with_part,
)


def blame_of(federation: Federation) -> Blame:
    (folder,) = (federation.directory / "runs").glob("*/proofs")
    return Blame(folder, Parties(federation.roster, federation.operator_identity.public_key))


def kept(federation: Federation) -> MemberProof:
    (path,) = blame_of(federation).folder.iterdir()
    return read_member_proof(path.read_bytes())


def wrong_share(directory: Path) -> Federation:
    federation = make_federation(directory)
    let_lie(federation, "query.unmask", resigned(federation, with_part("answer", lambda data: _altered_answer(data).to_bytes())))
    return federation


def wrong_envelope(directory: Path) -> Federation:
    federation = make_federation(directory)
    federation.fails = lambda name, message_type: name == "eve" and message_type == "evaluate.sum"
    alter = changed_confirmation(federation, lambda honest: replace(honest, envelopes=tuple(bytes(len(e)) for e in honest.envelopes)))
    let_lie(federation, "query.epoch_confirm", resigned(federation, alter))
    return federation


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        (wrong_share, WrongShareProof, "eve opened a wrong share of the self seed of ada"),
        (wrong_envelope, WrongEnvelopeProof, "eve published an envelope that does not open"),
    ],
)
def test_proof_is_kept_and_convinces_whoever_has_the_roster(tmp_path: Path, make: object, kind: type, sentence: str) -> None:
    federation = make(tmp_path)  # type: ignore[operator]
    assert set(HONEST) <= set(first_sum(federation))
    assert sentence in blame_of(federation).proved()["eve"]
    proof, key = kept(federation), federation.operator_identity.public_key
    assert isinstance(proof, kind) and sentence in proof.accuse(federation.roster, key)
    random = Random(1).randbytes
    elsewhere = Roster(tuple(RosterEntry(name, Identity.generate(name, random).public_key) for name in NAMES))
    with pytest.raises(ConsortiumError):
        proof.accuse(elsewhere, key)
    with pytest.raises(ConsortiumError):
        proof.accuse(federation.roster, federation.roster.entries[0].public_key)


@pytest.mark.parametrize("make", [wrong_share, wrong_envelope])
def test_altered_proof_convinces_nobody(tmp_path: Path, make: object) -> None:
    federation = make(tmp_path)  # type: ignore[operator]
    first_sum(federation)
    data, key = kept(federation).to_bytes(), federation.operator_identity.public_key
    for place in range(0, len(data), 37):
        altered = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(ConsortiumError):
            type(kept(federation)).from_bytes(altered).accuse(federation.roster, key)


def test_who_is_proved_to_be_at_fault_takes_no_further_part(tmp_path: Path) -> None:
    federation = wrong_share(tmp_path)
    result = federation.run()
    rows = federation.registry.rounds(result.run)
    assert [row.missing for row in rows] == [(), ("eve",)], "its input was in the first sum"
    federation.close()


def test_honest_run_leaves_no_proof(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    federation.run()
    assert not list((tmp_path / "runs").glob("*/proofs/*"))
    federation.close()
