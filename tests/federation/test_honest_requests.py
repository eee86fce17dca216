"""Nothing that an honest coordinator signs proves anything against it, whatever its members do to it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocols.errors import ConsortiumError, NoProof
from protocols.identity import Envelope
from protocols.pack import pack
from protocols.proofs import ContradictionProof
from protocols.secagg import propose_survivors
from protocols.stages import ANSWERED_ONCE
from protocols.wire import Parcel, from_record
from tests.federation.federation import Federation, make_plan
from tests.federation.scripted import Script
from tests.federation.test_malformed_members import NAMES, let_lie, make_federation, resigned

SEVEN = ("ada", "bea", "cyd", "dov", "eve", "fay", "gil")


def accusations(federation: Federation, to: str) -> set[str]:
    """What pairs of requests to one institution seem to prove."""
    requests = sorted({from_record(message.content).envelope for name, message in federation.messages if name == to})
    key = federation.operator_identity.public_key
    return {_proved(ContradictionProof(*pair), key) for pair in itertools.combinations(requests, 2)} - {""}


def _proved(proof: ContradictionProof, key: bytes) -> str:
    try:
        return proof.accuse(key)
    except ConsortiumError:
        return ""


def asked(federation: Federation, to: str) -> list[str]:
    return [message.metadata.message_type for name, message in federation.messages if name == to]


def test_uploads_in_parts_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for target in ("protocols.lanes.CHUNK_LANES", "protocols.secagg.inputs.CHUNK_LANES"):
        monkeypatch.setattr(target, 16)
    monkeypatch.setattr("protocols.secagg.inputs.PART_CHUNKS", 1)
    federation = make_federation(tmp_path)
    federation.keep_messages = True
    federation.run()
    assert asked(federation, "ada").count("query.upload") > 2 and set(asked(federation, "ada")) > ANSWERED_ONCE
    assert not set().union(*(accusations(federation, name) for name in NAMES))
    federation.close()


def test_whoever_draws_again_and_again_has_no_proof(tmp_path: Path) -> None:
    """A member draws other chunks each time and never confirms: it is shown different chunks under one subject."""
    federation, draws = make_federation(tmp_path), itertools.cycle([b"", bytes(4)])
    federation.keep_messages = True

    def drawing(_: Parcel, envelope: Envelope, parts: dict[str, bytes]) -> tuple[Envelope, Mapping[str, Any]]:
        return replace(envelope, payload=pack(parts | {"challenge": next(draws)})), {}

    def silent(_: Parcel, envelope: Envelope, parts: dict[str, bytes]) -> tuple[Envelope, Mapping[str, Any]]:
        return replace(envelope, payload=pack({})), {}

    let_lie(federation, "query.transcript", resigned(federation, drawing))
    let_lie(federation, "query.total", resigned(federation, silent))
    federation.run()
    assert asked(federation, "eve").count("query.total") > 1
    assert accusations(federation, "eve") == set()
    federation.close()


def test_a_set_that_was_given_up_proves_nothing(tmp_path: Path) -> None:
    """The institution refuses the second set and keeps both requests; an honest coordinator makes them when the first cannot be opened."""
    trainable = {"lora_rank": 2, "experts": "none", "targets": ["lm_head"]}
    federation = Federation(tmp_path, make_plan(trainable=trainable), SEVEN)
    script = Script(federation)
    for members in (SEVEN, SEVEN[:4]):
        epoch = script.set_up(members)
        manifest = script.manifest(epoch, 0, "evaluate", 0)
        given = script.sign("ada", epoch, manifest, propose_survivors(manifest, script.collect(epoch, manifest, members).roots))
    assert "already signed another set for this sum" in given.refusal
    (evidence,) = federation.nodes["ada"].ledger.evidence()
    with pytest.raises(NoProof):
        ContradictionProof(evidence.earlier, evidence.request).accuse(federation.operator_identity.public_key)
    federation.close()
