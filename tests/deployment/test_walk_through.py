"""A coordinator and four institutions from nothing to a released model that each verified, with the documented commands alone."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consortium.demo.deployment import write_deployment
from tests.deployment.consortium import Deployment, stand_up

pytestmark = pytest.mark.slow
MOST_SECONDS = 240.0


@pytest.fixture
def hospitals(tmp_path: Path) -> Iterator[Deployment]:
    names = write_deployment(tmp_path, seed=0)
    deployment = stand_up(tmp_path, names)
    for name in names:
        shutil.copy(tmp_path / f"{name}.jsonl", tmp_path / name / "records.jsonl")
    yield deployment
    deployment.close()


def test_from_nothing_to_a_model_that_every_institution_verified(tmp_path: Path) -> None:
    begun = time.monotonic()
    names = write_deployment(tmp_path, seed=0)
    deployment = stand_up(tmp_path, names)
    try:
        for name in names:
            shutil.copy(tmp_path / f"{name}.jsonl", tmp_path / name / "records.jsonl")
        deployment.take_part()
        submitted = json.loads(deployment.call("coordinator", "submit", "plan.toml", "--home", "operator", "--json"))
        assert {one["institution"]: one["accepted"] for one in submitted["answers"]} == dict.fromkeys(names, True)
        run = submitted["run"]
        ended = deployment.wait_for(run, lambda found: bool(found["ended_at"]), MOST_SECONDS)
        assert ended["state"] == "finished", deployment.said()
        deployment.call("coordinator", "models", "release", run, "--home", "operator")
        deployment.call_each([("client", "models", "pull", "triage", "--institution", name) for name in names])
        deployment.call_each([("client", "ledger", "verify", "--institution", name) for name in names])
        deployment.call("coordinator", "verify", "--registry", "operator/registry.db")
    finally:
        deployment.close()
    assert not deployment.running
    assert time.monotonic() - begun < MOST_SECONDS
