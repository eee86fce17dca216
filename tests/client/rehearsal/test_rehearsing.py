"""A rehearsed round: real vectors and real bytes, and nothing of it outside of the call."""

from __future__ import annotations

import io
import math
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client.given_plan import complete_plan
from client.rehearsal.playing import PlayedSum, play
from client.rehearsal.rehearsing import Means, rehearse, written
from client.rehearsal.report import Rehearsal
from client.settings import HardwareSettings, load_settings
from client.workbench import Base, Workbench, load_base, open_workbench
from model.bases import bundled_base
from protocols.errors import PolicyError
from protocols.identity import _Sealed
from protocols.lanes import LaneFormat
from protocols.merkle import leaf_hash, merkle_root
from protocols.pack import unpack
from protocols.plan import Plan
from protocols.policy import Policy
from protocols.schedule import PlannedSum
from protocols.secagg import UploadRoot
from protocols.state import state_hash
from protocols.terms import Terms
from protocols.traffic import round_bytes
from tests.client.small_institution import small_plan, write_institution

DISTRIBUTED = {"epsilon": 8.0, "delta": 1e-5, "mechanism": "distributed", "noise_multiplier": 3.0}


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(Path(bundled_base("tiny")), HardwareSettings())


def bench_of(plan: Plan, base: Base, folder: Path) -> Workbench:
    write_institution(folder)
    return open_workbench(complete_plan(plan, base.sha256).plan, load_settings(folder / "institution.toml"), base)


def rehearsed(bench: Workbench, folder: Path, out: io.BytesIO, members: int = 1, policy: Policy | None = None) -> Rehearsal:
    ticks = iter(range(1000))
    means = Means(lambda: datetime.now(UTC), lambda: float(next(ticks)), lambda: 5, os.urandom, folder)
    return rehearse(bench, "ada", members, policy or Policy(), out, means)


def no_socket(*_: object, **__: object) -> None:
    raise AssertionError("a rehearsal opened a socket")


def test_a_round_is_played_without_a_socket_and_without_a_trace(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = tmp_path / "ada", io.BytesIO()
    bench = bench_of(small_plan(), base, folder)
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(socket, "socket", no_socket)
    found = rehearsed(bench, folder, out)
    assert sorted(folder.rglob("*")) == before
    assert found.institutions == 3 and found.test_bits_per_byte[1] < found.test_bits_per_byte[0]
    assert [message.sum for message in found.messages] == ["update", "evaluate"]


def test_every_sum_begins_from_the_state_whose_hash_it_names(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[PlayedSum] = []

    def watched(*given: Any) -> Iterator[PlayedSum]:
        for one in play(*given):
            played.append(one)
            yield one

    monkeypatch.setattr("client.rehearsal.rehearsing.play", watched)
    rehearsed(bench_of(small_plan(), base, tmp_path / "ada"), tmp_path, io.BytesIO())
    assert len({one.after.state_hash for one in played}) > 1
    assert all(session.state_hash == state_hash(session.state) for one in played for session in (one.before, one.after))


def test_the_file_holds_what_an_upload_has(base: Base, tmp_path: Path) -> None:
    folder, out = tmp_path / "ada", io.BytesIO()
    bench = bench_of(small_plan(secure_aggregation={"lanes": 20}), base, folder)
    found, content = rehearsed(bench, folder, out, members=5), out.getvalue()
    assert found.institutions == 5 and len(content) == found.sent
    terms = Terms(bench.plan, bench.adaptation)
    assert sum(message.chunks for message in found.messages) == dict(round_bytes(terms, terms.start()))[1]
    first = found.messages[0]
    envelope, chunks = _Sealed.from_bytes(content[: first.envelope]).envelope, content[first.envelope : first.envelope + first.chunks]
    assert (envelope.sender, envelope.recipient, envelope.stage) == ("ada", "coordinator", "update/train.sum")
    root, lanes = UploadRoot.from_bytes(unpack(envelope.payload)["root"]), first_lanes(terms)
    written = [chunks[lanes.offset(n) : lanes.offset(n) + lanes.chunk_bytes(n)] for n in range(lanes.chunks)]
    assert root.sender == "ada" and root.root == merkle_root([leaf_hash(chunk) for chunk in written])
    masked, update = found.histograms.masked, found.histograms.update
    assert update is not None and sum(masked) == sum(update) == sum(math.prod(held.shape) for held in found.held)
    assert sum(update[7:9]) > 0.9 * sum(update) and max(masked) < 2 * min(masked)


def first_lanes(terms: Terms) -> LaneFormat:
    return terms.lanes(terms.start(), PlannedSum(1, "update", False)).format


def test_two_rehearsals_share_no_masked_byte_string(base: Base, tmp_path: Path) -> None:
    bench, first, second = bench_of(small_plan(), base, tmp_path / "ada"), io.BytesIO(), io.BytesIO()
    found = rehearsed(bench, tmp_path / "ada", first)
    rehearsed(bench, tmp_path / "ada", second)
    start = found.messages[0].envelope
    chunks = [content.getvalue()[start : start + found.messages[0].chunks] for content in (first, second)]
    assert sum(a == b for a, b in zip(*chunks, strict=True)) < len(chunks[0]) / 100


def test_of_a_private_plan_no_update_is_shown(base: Base, tmp_path: Path) -> None:
    folder = tmp_path / "ada"
    bench = bench_of(small_plan(privacy={"epsilon": 8.0, "delta": 1e-5}, training={"local_steps": 1, "batch_size": 4}), base, folder)
    found = rehearsed(bench, folder, io.BytesIO())
    assert found.histograms.update is None and found.training_loss is None
    assert "Noise was drawn and thrown away" in "\n".join(found.lines())


def test_the_policy_is_asked_and_a_person_is_not(base: Base, tmp_path: Path) -> None:
    folder = tmp_path / "ada"
    bench = bench_of(small_plan(), base, folder)
    with pytest.raises(PolicyError, match="colluding is 1 and this institution's policy asks for 2"):
        rehearsed(bench, folder, io.BytesIO(), policy=Policy(colluding=2))
    assert rehearsed(bench, folder, io.BytesIO(), policy=Policy(approval="plan")).sent


@pytest.mark.parametrize(
    "tables",
    [
        {"trainable": {"lora_rank": 2, "experts": "esft-token", "expert_rank": 1}},
        {"trainable": {"lora_rank": 2, "experts": "all", "expert_rank": 2, "ranks": "nested"}},
        {"aggregation": {"rule": "sketched"}},
        {"aggregation": {"rule": "fedsb"}},
        {"aggregation": {"rule": "fedsa"}},
        {"participation": {"batches": 2}},
        {"privacy": DISTRIBUTED, "training": {"local_steps": 1, "batch_size": 4}},
        {"training": {"local_steps": 2, "batch_size": 4, "scaffold": True}},
    ],
    ids=str,
)
def test_every_kind_of_sum_can_be_rehearsed(base: Base, tmp_path: Path, tables: dict[str, object]) -> None:
    found = rehearsed(bench_of(small_plan(**tables), base, tmp_path / "ada"), tmp_path / "ada", out := io.BytesIO())
    assert len(out.getvalue()) == found.sent > 0


def test_what_would_be_sent_is_its_owners_alone_in_a_file_that_was_there_too(tmp_path: Path) -> None:
    path = tmp_path / "sent"
    path.touch(mode=0o644)
    with written(path) as file:
        file.write(b"masked")
    assert path.read_bytes() == b"masked" and path.stat().st_mode & 0o777 == 0o600
