"""Rosters end to end: a real server and registry, and the commands of two institutions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli.roster import app
from client.connection import connect
from client.errors import ServiceRefused
from client.institution import read_membership
from client.joining import fetch_certificate, join
from client.roster_book import voucher_for
from coordinator.offers import present_roster
from coordinator.registry.records import Participant
from protocols.fingerprint import fingerprint
from protocols.identity import Identity
from protocols.invitation import read_invitation
from protocols.roster_offer import rotation
from protocols.service import ROTATE, VOUCH, RotateRequest
from tests.deployment.operator import Operator, now

NAMES = ("amber", "birch")
runner = CliRunner()


@pytest.fixture
def places(operator: Operator, tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Folders of two approved institutions, while the operator serves."""
    with operator.serving():
        for name in NAMES:
            operator.invite(name, tmp_path / f"{name}.toml")
            join(tmp_path / name, read_invitation(tmp_path / f"{name}.toml"), now, os.urandom)
            operator.approve(name)
            fetch_certificate(tmp_path / name, now)
        yield {name: tmp_path / name for name in NAMES}


def said(*words: str, code: int = 0, answer: str | None = None) -> str:
    result = runner.invoke(app, list(words), input=answer)
    assert result.exit_code == code, result.output
    return result.output


def own(folder: Path) -> Identity:
    return Identity.load(read_membership(folder).name, folder / "identity.key")


def test_a_person_accepts_vouches_and_sees_a_rotation(places: dict[str, Path], operator: Operator) -> None:
    amber, birch = places["amber"], places["birch"]
    words = fingerprint("birch", own(birch).public_key)
    shown = said("--institution", str(amber))
    assert f"birch is new: {words}" in shown
    said("accept", "birch", "--institution", str(amber), answer="n\n", code=1)
    assert read_membership(amber).roster.names == ("amber",)
    said("accept", "birch", "--institution", str(amber), answer="y\n")
    assert read_membership(amber).roster.key_of("birch") == own(birch).public_key
    assert "amber vouches for the key of birch" in said("vouch", "birch", "--institution", str(amber))
    said("accept", "amber", "--institution", str(birch), "--fingerprint", fingerprint("amber", own(amber).public_key))
    said("rotate", "--institution", str(birch))
    assert present_roster(operator.registry).key_of("birch") == own(birch).public_key != read_membership(amber).roster.key_of("birch")
    document = json.loads(said("--institution", str(amber), "--json"))
    assert [(one["change"], one["signed_by_former_key"]) for one in document["differences"]] == [("new key", True)]
    said("accept", "birch", "--institution", str(amber), answer="y\n")
    assert read_membership(amber).former[0].name == "birch" and "Otherwise" not in said("--institution", str(amber))


def test_revocation_is_offered_and_taken_over_by_a_person(places: dict[str, Path], operator: Operator) -> None:
    amber = places["amber"]
    said("accept", "birch", "--institution", str(amber), answer="y\n")
    operator.registry.revoke("birch", "left")
    assert "birch was revoked: left" in said("--institution", str(amber))
    assert read_membership(amber).roster.names == NAMES
    said("accept", "birch", "--institution", str(amber), answer="y\n")
    assert read_membership(amber).roster.names == ("amber",) == present_roster(operator.registry).names


def test_with_json_nobody_is_asked(places: dict[str, Path]) -> None:
    refused = json.loads(said("accept", "birch", "--institution", str(places["amber"]), "--json", code=2))
    assert "--fingerprint" in refused["error"]


def test_the_service_takes_rotations_and_vouchers_of_the_caller_alone(places: dict[str, Path]) -> None:
    amber, birch, new = places["amber"], places["birch"], Identity("birch", os.urandom(32))
    said("accept", "birch", "--institution", str(amber), answer="y\n")
    honest = rotation("birch", own(birch), new)
    voucher = voucher_for(amber, "birch")
    with connect(amber, now) as service:
        with pytest.raises(ServiceRefused, match="not of the present key of amber"):
            service.call(ROTATE, RotateRequest(honest, new.sign(honest.signed())))
        forged = replace(honest, name="amber", old_key=own(amber).public_key)
        with pytest.raises(ServiceRefused, match="a signature is not that of amber under its former key"):
            service.call(ROTATE, RotateRequest(forged, new.sign(forged.signed())))
        with pytest.raises(ServiceRefused, match="in its own name alone"):
            service.call(VOUCH, replace(voucher, by="birch"))
        with pytest.raises(ServiceRefused, match="another key of birch"):
            service.call(VOUCH, replace(voucher, public_key=new.public_key))
    with connect(birch, now) as service, pytest.raises(ServiceRefused, match="under its new key"):
        service.call(ROTATE, RotateRequest(honest, bytes(64)))


def test_a_key_that_somebody_had_is_no_new_one(places: dict[str, Path], operator: Operator) -> None:
    """To end all runs: two institutions agree on one key, which no roster can hold twice."""
    amber, birch, shared = places["amber"], places["birch"], Identity("birch", os.urandom(32))

    def handed_in(folder: Path, new: Identity) -> None:
        signed = rotation(own(folder).name, own(folder), new)
        with connect(folder, now) as service:
            service.call(ROTATE, RotateRequest(signed, new.sign(signed.signed())))

    former = own(birch)
    said("rotate", "--institution", str(birch))
    for key in (own(birch), former):
        with pytest.raises(ServiceRefused, match="the new key of amber was used before"):
            handed_in(amber, key)
    with pytest.raises(ServiceRefused, match="the new key of birch was used before"):
        handed_in(birch, former)
    handed_in(amber, shared)
    assert present_roster(operator.registry).key_of("amber") == shared.public_key


def test_nobody_fills_the_event_chain_with_keys(places: dict[str, Path], operator: Operator) -> None:
    """To end all runs: a node follows no chain that grew by more than 65,536 events since it looked last."""
    for _ in range(3):
        said("rotate", "--institution", str(places["birch"]))
    assert "has changed its key 3 times within a day" in said_wrong(places["birch"])
    operator.ahead = timedelta(days=1)
    said("rotate", "--institution", str(places["birch"]))


def test_an_offer_writes_nothing_onto_the_terminal_that_it_obeys(places: dict[str, Path], operator: Operator) -> None:
    """To have words compared that are not those of the key: a reason or a name moves the cursor and writes over them."""
    amber = places["amber"]
    said("accept", "birch", "--institution", str(amber), answer="y\n")
    operator.registry.revoke("birch", "left\x1b[2Acedar is new: good-words\n")
    assert "left\\x1b[2Acedar is new: good-words\\n" in said("--institution", str(amber))
    assert "left\\x1b[2A" in said("accept", "birch", "--institution", str(amber), answer="n\n", code=1)
    operator.registry.record_participants([Participant("cedar\x1b[2A", "ab" * 32)])
    assert "cannot be an institution's name" in json.loads(said("--institution", str(amber), "--json", code=1))["error"]


def said_wrong(folder: Path) -> str:
    return json.loads(said("rotate", "--institution", str(folder), "--json", code=1))["error"]  # type: ignore[no-any-return]
