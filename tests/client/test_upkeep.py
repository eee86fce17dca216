"""What a running node does by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

import client.upkeep
from client.errors import ServiceUnreachable
from client.upkeep import EVERY_SECONDS, Upkeep
from protocols.policy import Policy, write_policy


class Watch:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _upkeep(folder: Path, watch: Watch, said: list[str]) -> Upkeep:
    return Upkeep(folder, lambda: datetime(2030, 1, 31, tzinfo=UTC), watch, said.append)


def test_it_looks_at_once_and_then_every_ten_minutes_and_no_failure_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, said, watch = list[float](), list[str](), Watch()

    def away(_: Path, __: object) -> None:
        asked.append(watch.now)
        raise ServiceUnreachable("the service is away")

    monkeypatch.setattr(client.upkeep, "fetch_certificate", away)
    upkeep = _upkeep(tmp_path, watch, said)
    for now in (0.0, 1.0, EVERY_SECONDS - 1, EVERY_SECONDS, EVERY_SECONDS + 1):
        watch.now = now
        upkeep.look()
    assert asked == [0.0, EVERY_SECONDS]
    assert said == ["the operator's service was of no use now: the service is away"] * 2


def test_without_the_policys_word_nobody_is_asked_for_vouchers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_policy(tmp_path / "policy.toml", Policy())
    monkeypatch.setattr(client.upkeep, "fetch_certificate", lambda *_: None)
    monkeypatch.setattr(client.upkeep, "clock_warning", lambda *_: "")
    monkeypatch.setattr(client.upkeep, "connect", lambda *_: pytest.fail("asked"))
    _upkeep(tmp_path, Watch(), []).look()
