"""What is secret is gone from an institution's disk as soon as no later step needs it, also after a crash at the worst place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.ledger import Ledger
from client.ledger_rows import FinishedSum
from protocols.epoch import EpochState, KeysState, SharesMessage, SharesState, deal_shares
from protocols.errors import ProtocolError
from protocols.secagg import SurvivorProposal, mask_input, unmask
from protocols.shamir import SHARE_BYTES
from tests.federation.federation import NAMES, Crash, Federation, _now, make_plan
from tests.federation.scripted import Script

NO_EXPERTS = {"lora_rank": 2, "targets": ["attention", "lm_head"], "experts": "none"}


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    federation = Federation(tmp_path, make_plan(rounds=1, trainable=NO_EXPERTS))
    yield Script(federation)
    federation.close()


def ledger(script: Script) -> Ledger:
    return script.federation.nodes["ada"].ledger


def on_disk(script: Script) -> bytes:
    """Everything in ada's home."""
    return b"\0".join(path.read_bytes() for path in ledger(script).home.rglob("*") if path.is_file())


def stored(script: Script, epoch: int) -> EpochState:
    row = ledger(script).epoch("r1", epoch)
    assert row is not None and row.stage == "confirmed"
    return EpochState.from_bytes(row.state)


def secrets_of(state: EpochState, slot: int) -> list[bytes]:
    held = [shares[2 * SHARE_BYTES * slot :][: 2 * SHARE_BYTES] for shares in state.held.values()]
    return [state.self_seeds[slot], *(seeds[slot] for seeds in state.pair_seeds.values()), *held]


def test_channel_keys_are_gone_once_the_epoch_is_confirmed(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[KeysState] = []

    def watch(state: KeysState, *rest: Any) -> tuple[SharesState, SharesMessage]:
        seen.append(state)
        return deal_shares(state, *rest)

    monkeypatch.setattr("client.epochs.deal_shares", watch)
    script.set_up(NAMES)
    (mine,) = [state for state in seen if state.sender == "ada"]
    assert mine.seed not in on_disk(script) and mine.mlkem_seed not in on_disk(script)


def test_secrets_of_a_finished_sum_are_gone_and_those_of_later_slots_are_left(script: Script) -> None:
    epoch = script.set_up(NAMES)
    before = stored(script, 1)
    unused, used, later = (secrets_of(before, slot) for slot in range(3))
    assert all(secret in on_disk(script) for secret in [*unused, *used, *later])
    outcome = script.sum(epoch, 0, "evaluate", 1)
    vector = next((ledger(script).home / "vectors").rglob("*.u32")).read_bytes()
    script.follow(outcome, NAMES)
    # What was opened stands in the answer, which the coordinator has; nothing else of the slot, nor of those before it, is left.
    opened = {share for shares in before.held.values() for share in [shares[2 * SHARE_BYTES :][:SHARE_BYTES]]}
    left = on_disk(script)
    after = stored(script, 1)
    assert not any(secret in left for secret in [*unused, *used])
    assert after.self_seeds[:2] == (b"", b"") and all(share not in after.to_bytes() for share in opened)
    assert all(secret in left for secret in later) and secrets_of(after, 2) == later
    assert vector not in left and not list((ledger(script).home / "vectors").rglob("*.u32"))


def test_nothing_is_masked_or_opened_in_an_erased_slot(script: Script) -> None:
    epoch = script.set_up(NAMES)
    script.follow(script.sum(epoch, 0, "evaluate", 1), NAMES)
    manifest = script.manifest(epoch, 1, "update", 0)
    assert "slot 0 were erased" in script.send("ada", epoch, manifest).refusal
    state, ada = stored(script, 1), script.identity("ada")
    with pytest.raises(ProtocolError, match="erased"):
        mask_input(state, manifest, np.zeros(manifest.lanes.size, np.uint32), ada)
    certificate = script.forge_certificate(manifest, SurvivorProposal(manifest.hash, dict.fromkeys(NAMES, bytes(32))), NAMES)
    with pytest.raises(ProtocolError, match="erased"):
        unmask(state, manifest, certificate, script.federation.roster, ada)


def test_earlier_epochs_and_a_finished_run_leave_no_secret(script: Script) -> None:
    script.set_up(NAMES)
    abandoned = stored(script, 1)
    epoch = script.set_up(NAMES)
    script.follow(script.sum(epoch, 0, "evaluate", 0), NAMES)
    assert not any(secret in on_disk(script) for slot in range(6) for secret in secrets_of(abandoned, slot))
    current = stored(script, 2)
    script.follow(script.sum(epoch, 1, "update", 1), NAMES)
    script.follow(script.sum(epoch, 1, "evaluate", 2), NAMES)
    assert not any(secret in on_disk(script) for slot in range(3, 6) for secret in secrets_of(current, slot))
    assert "is none" in script.send("ada", epoch, script.manifest(epoch, 1, "evaluate", 3)).refusal


def test_crash_while_a_sum_is_finished_leaves_all_or_nothing(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = script.set_up(NAMES)
    outcome, kept = script.sum(epoch, 0, "evaluate", 0), Ledger.finish_sum

    def die(_: Ledger, finished: FinishedSum, keep_training: bool) -> None:
        raise Crash

    monkeypatch.setattr(Ledger, "finish_sum", die)
    with pytest.raises(Crash):
        script.publish("ada", outcome)
    assert script.place("ada") == (b"", 0) and stored(script, 1).self_seeds[0]
    monkeypatch.setattr(Ledger, "finish_sum", kept)
    assert script.publish("ada", outcome).refusal == ""
    assert script.place("ada")[1] == 1 and not list((ledger(script).home / "vectors").rglob("*.u32"))


def test_crash_before_the_vectors_file_is_removed_is_made_good_by_the_next_process(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = script.set_up(NAMES)
    outcome = script.sum(epoch, 0, "evaluate", 0)

    def die(_: Ledger) -> None:
        raise Crash

    monkeypatch.setattr(Ledger, "_erase_rest", die)
    with pytest.raises(Crash):
        script.publish("ada", outcome)
    monkeypatch.undo()
    home = ledger(script).home
    assert script.place("ada")[1] == 1 and list((home / "vectors").rglob("*.u32"))
    ledger(script).close()
    Ledger.open(home, _now).close()
    assert not list((home / "vectors").rglob("*.u32"))
