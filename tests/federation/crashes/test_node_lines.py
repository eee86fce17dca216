"""A node that dies at a line of the durability table (PROTOCOL, section 5) answers nothing in two ways afterwards.

The request to join is not here. Checkpoints are in `test_checkpoints.py`, epsilon is in `test_private_lines.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.link import Subject
from protocols.epoch import KeysState, SharesMessage, SharesState, deal_shares
from protocols.pack import pack
from protocols.secagg import SumManifest, propose_survivors
from tests.federation.crashes.lives import PLAN
from tests.federation.crashes.points import Points, watch
from tests.federation.crashes.watched import Watched
from tests.federation.federation import NAMES, Crash
from tests.federation.scripted import Answer, Epoch, Script

AWAY = NAMES[:-1]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Four institutions; ada dies alone where a test says."""
    directory = tmp_path / "federation"
    directory.mkdir()
    points = Points(directory, parties=("ada",), alone=True)
    watch(points, monkeypatch)
    federation = Watched(directory, PLAN, points=points)
    yield Script(federation)
    federation.close()


@pytest.fixture
def dealers(monkeypatch: pytest.MonkeyPatch) -> list[KeysState]:
    """Those who drew the secrets of an epoch, each with the channel keys that it had then."""
    seen: list[KeysState] = []

    def watched(state: KeysState, *rest: Any) -> tuple[SharesState, SharesMessage]:
        seen.append(state)
        return deal_shares(state, *rest)

    monkeypatch.setattr("client.epochs.deal_shares", watched)
    return seen


def die(script: Script, where: str, step: Callable[[], object]) -> None:
    """Ada dies within a step, at the first point that `where` fits, and is opened again."""
    federation = watched(script)
    federation.points.where = where
    with federation.points.of("ada"), pytest.raises(Crash):
        step()
    federation.restart("ada")


def always(script: Script, step: Callable[[], Answer]) -> Answer:
    """The answer to a step, which ada gives again after her process ended."""
    first = step()
    watched(script).restart("ada")
    second = step()
    assert first.refusal == "" and second.parcel.envelope == first.parcel.envelope
    assert [values.tobytes() for values in second.parcel.arrays.values()] == [values.tobytes() for values in first.parcel.arrays.values()]
    return first


def watched(script: Script) -> Watched:
    assert isinstance(script.federation, Watched)
    return script.federation


def test_epoch_keys(script: Script) -> None:
    terms = script.terms_of(NAMES)
    die(script, "COMMIT", lambda: script.announce("ada", terms))
    always(script, lambda: script.announce("ada", terms))
    assert "another request" in script.announce("ada", script.terms_of(NAMES, epoch=terms.epoch, slots=7)).refusal


def test_epoch_shares_are_sealed_once(script: Script, dealers: list[KeysState]) -> None:
    terms = script.terms_of(NAMES)
    sent = {name: script.announce(name, terms).parts["message"] for name in NAMES}

    def step() -> Answer:
        return script.ask("ada", Subject(0, "epoch", terms.epoch, terms.hash), "query.epoch_shares", {"messages": pack(sent)})

    die(script, "COMMIT", step)
    always(script, step)
    assert len(dealers) == 2, "more than those that nobody saw, and those that went out twice"


@pytest.mark.parametrize("where", ["COMMIT", "wal_checkpoint"])
def test_epoch_signature_leaves_no_channel_key(
    script: Script, where: str, dealers: list[KeysState], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, died = script.ask, []

    def dying(*question: Any) -> Answer:
        if question[0] == "ada" and "query.epoch_confirm" in question:
            die(script, where, lambda: ask(*question))
            died.append(where)
            return always(script, lambda: ask(*question))
        return ask(*question)

    monkeypatch.setattr(script, "ask", dying)
    script.set_up(NAMES)
    (mine,) = [state for state in dealers if state.sender == "ada"]
    assert died and mine.seed not in on_disk(script) and mine.mlkem_seed not in on_disk(script)


def test_training_starts_with_its_slot_taken(script: Script) -> None:
    epoch = start(script)
    manifest = script.manifest(epoch, 1, "update", 1)
    die(script, "at training", lambda: script.send("ada", epoch, manifest))
    assert "was used by another manifest" in script.send("ada", epoch, script.manifest(epoch, 1, "update", 1)).refusal
    always(script, lambda: script.send("ada", epoch, manifest))


@pytest.mark.parametrize(("where", "trainings"), [(r"update\.u32 before", 2), ("number 2", 2), ("number 3", 1), ("number 4", 1)])
def test_first_masked_byte(script: Script, where: str, trainings: int) -> None:
    epoch = start(script)
    manifest = script.manifest(epoch, 1, "update", 1)
    die(script, where, lambda: script.send("ada", epoch, manifest))
    given = always(script, lambda: script.send("ada", epoch, manifest))
    again = script.send("ada", epoch, script.manifest(epoch, 1, "update", 2))
    assert watched(script).log.trainings == ["ada"] * trainings and not watched(script).log.idle
    assert again.refusal == "" and again.parcel.arrays["chunks"].tobytes() != given.parcel.arrays["chunks"].tobytes()


def test_survivor_signature(script: Script) -> None:
    epoch, manifest = begun(script)
    roots = script.collect(epoch, manifest, NAMES).roots
    whole, smaller = propose_survivors(manifest, roots), propose_survivors(manifest, {name: roots[name] for name in AWAY})
    die(script, "COMMIT", lambda: script.sign("ada", epoch, manifest, whole))
    always(script, lambda: script.sign("ada", epoch, manifest, smaller))
    assert script.sign("ada", epoch, manifest, whole).refusal


def test_unmask_answer(script: Script) -> None:
    epoch, manifest = begun(script)
    roots = script.collect(epoch, manifest, NAMES).roots
    whole, smaller = propose_survivors(manifest, roots), propose_survivors(manifest, {name: roots[name] for name in AWAY})
    opened, other = script.forge_certificate(manifest, whole, NAMES), script.forge_certificate(manifest, smaller, AWAY)
    die(script, "COMMIT", lambda: script.open("ada", epoch, manifest, opened))
    always(script, lambda: script.open("ada", epoch, manifest, opened))
    assert script.open("ada", epoch, manifest, other).refusal


@pytest.mark.parametrize("where", [r"safetensors before", "COMMIT", "wal_checkpoint"])
def test_next_round_accepted(script: Script, where: str) -> None:
    epoch = start(script)
    outcome = script.sum(epoch, 1, "update", 1)
    ledger = script.federation.nodes["ada"].ledger
    vector = next((ledger.home / "vectors").rglob("*.u32")).read_bytes()
    challenge = script.commit("ada", outcome).parts["challenge"]
    die(script, where, lambda: script.reveal("ada", outcome, challenge))
    always(script, lambda: script.publish("ada", outcome))
    assert script.place("ada")[1] == 2 and vector not in on_disk(script)
    assert not (ledger.home / "ledger.db-wal").stat().st_size


def start(script: Script) -> Epoch:
    """An epoch in which the first measurement is over."""
    epoch = script.set_up(NAMES)
    script.follow(script.sum(epoch, 0, "evaluate", 0), NAMES)
    return epoch


def begun(script: Script) -> tuple[Epoch, SumManifest]:
    epoch = script.set_up(NAMES)
    return epoch, script.manifest(epoch, 0, "evaluate", 0)


def on_disk(script: Script) -> bytes:
    home = script.federation.nodes["ada"].ledger.home
    return b"\0".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
