"""What an institution's own ledger proves of a released version, and which lies of a coordinator it finds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from client.institution import Membership
from client.model_audit import audit_model
from coordinator.release import TrainedModel, release_model
from protocols.audit import Audit
from protocols.identity import Identity
from protocols.release import file_sha256, sign_manifest
from tests.federation.federation import Federation, make_plan
from tests.federation.private_plans import SMALL

PLAN = make_plan(rounds=1, trainable=SMALL, release={"require": {"metric_above_base": None}})
NAMES = ("ada", "bea", "cyd", "dov")


class Released:
    """A finished run of four, of whom `dov` is gone after the first sum, and the version that was released of it."""

    def __init__(self, place: Path) -> None:
        self.federation = Federation(place, PLAN, NAMES, fails=lambda name, stage: name == "dov" and stage in ("train.sum", "query.total"))
        result = self.federation.run()
        trained = TrainedModel(result.run, result.state, result.transcript_sha256, result.threshold, result.colluding)
        signer, now = self.federation.operator_identity, datetime(2030, 1, 1, tzinfo=UTC)
        version = release_model(self.federation.registry, PLAN, trained, identity=signer, models=place / "models", now=now)
        self.folder = place / "models" / version.path

    def audit(self, folder: Path, name: str = "ada") -> Audit:
        node = self.federation.nodes[name]
        return audit_model(folder, Membership(name, node.roster, node.coordinator_key), node.ledger)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    made = Released(tmp_path_factory.mktemp("released"))
    yield made
    made.federation.close()


@pytest.fixture
def copy(released: Released, tmp_path: Path) -> Path:
    return shutil.copytree(released.folder, tmp_path / "1")


def sign_again(folder: Path, signer: Identity, **changes: Any) -> None:
    """The manifest of the folder's present files, as a lying coordinator would sign it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {path.name: file_sha256(path) for path in folder.iterdir() if path.name != "manifest.json"}
    content = {name: value for name, value in manifest.items() if name not in ("signer", "signature")} | {"files": files} | changes
    (folder / "manifest.json").write_bytes(sign_manifest(content, signer))


def test_member_that_followed_the_run_proves_every_tensor(released: Released) -> None:
    audit = released.audit(released.folder)
    assert audit.ok and len(audit.proved) == 4 and len(audit.unproved) == 2
    assert audit.proved[-1].startswith("Its tensors and experts are, bit for bit,")


def test_member_that_missed_the_end_says_what_it_cannot_know(released: Released) -> None:
    audit = released.audit(released.folder, "dov")
    assert audit.ok and len(audit.proved) == 2
    assert any("this institution followed" in sentence for sentence in audit.unproved)


def test_stranger_to_the_run_has_the_signature_alone(released: Released, tmp_path: Path) -> None:
    other = Federation(tmp_path, PLAN, NAMES)
    node = other.nodes["ada"]
    audit = audit_model(released.folder, Membership("ada", node.roster, node.coordinator_key), node.ledger)
    other.close()
    assert audit.ok and len(audit.proved) == 1 and any("the ledger knows no run" in sentence for sentence in audit.unproved)


def no_tensors(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"")


def other_tensors(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    name = min(tensors)
    tensors[name] = np.nextafter(tensors[name], np.float32(9)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def one_tensor_less(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    del tensors[min(tensors)]
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def other_plan(folder: Path) -> None:
    (folder / "plan.json").write_bytes(replace_plan().canonical())


def replace_plan() -> Any:
    return PLAN.model_copy(update={"seed": 7})


LIES: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "other tensors": (other_tensors, {}, "its tensors or experts are not those of the run's final state"),
    "a tensor left out": (one_tensor_less, {}, "its tensors or experts are not those of the run's final state"),
    "no tensors": (no_tensors, {}, "signed, and yet not usable"),
    "other experts": (lambda _: None, {"experts": {"1": [0]}}, "its tensors or experts are not those of the run's final state"),
    "another state": (lambda _: None, {"state_sha256": "ab" * 32}, "another last transcript or state than this institution came to"),
    "another transcript": (lambda _: None, {"transcript_sha256": "ab" * 32}, "another last transcript or state"),
    "another plan": (other_plan, {"plan_sha256": replace_plan().sha256}, "not of the plan, base and terms"),
    "another base": (lambda _: None, {"base": {"name": "tiny", "sha256": "cd" * 32}}, "not of the plan, base and terms"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_lying_coordinator_signs_is_found(released: Released, copy: Path, lie: str) -> None:
    change, fields, sentence = LIES[lie]
    change(copy)
    sign_again(copy, released.federation.operator_identity, **fields)
    audit = released.audit(copy)
    assert not audit.ok and any(sentence in fault for fault in audit.failed), audit.failed


def test_what_was_changed_on_the_way_is_found(released: Released, copy: Path) -> None:
    other_tensors(copy)
    assert "changed after the release" in released.audit(copy).failed[0]
    sign_again(copy, Identity("coordinator", bytes(32)))
    assert "not signed by the key expected" in released.audit(copy).failed[0]


HOSTILE = ('{"signature": "00", "files": ["x"]}', '{"signature": "00", "files": {"..": "0"}}', '{"signature": "00", "files": {}, "x": NaN}')


@pytest.mark.parametrize("manifest", HOSTILE)
def test_hostile_manifest_is_one_sentence(released: Released, copy: Path, manifest: str) -> None:
    (copy / "manifest.json").write_text(manifest)
    assert "no readable manifest" in released.audit(copy).failed[0]
