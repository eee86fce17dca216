"""Releasing a model version: a directory of adapter, plan, card and signed manifest; its row in the registry is written last."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from coordinator.adapter_files import ADAPTER_FILE, PEFT_PREFIX, adapter_config
from coordinator.errors import ReleaseRefused
from coordinator.gate import Override, final_metric, record_override, unmet
from coordinator.model_card import CardFacts, model_card
from coordinator.registry.records import ModelVersion, Round, Run
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState
from protocols.files import write_file
from protocols.identity import Identity
from protocols.plan import Plan
from protocols.release import file_sha256, sign_manifest
from protocols.state import State, state_hash

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a finished run hands to its release."""

    run: str
    state: State
    transcript_sha256: str  # of the last sum
    threshold: int
    colluding: int


def release_model(
    registry: Registry,
    plan: Plan,
    trained: TrainedModel,
    *,
    identity: Identity,
    models: Path,
    now: datetime,
    tokenizer: Path | None = None,
    override: str = "",
) -> ModelVersion:
    """Writes `models`/NAME/VERSION and its row; a run that was released before keeps its version.

    Args:
        models: folder of all models; the registry stores the path below it.
        tokenizer: folder whose tokenizer files go with the model.
        override: why it is released even if the plan's requirements are not met; then the event chain and the card say so.

    Raises:
        ReleaseRefused: the run is not finished, its state is not the last round's, or the plan's requirements are not met.
    """
    released = registry.model_versions(trained.run)
    if released:
        return released[0]
    run, rounds = registry.run(trained.run), registry.rounds(trained.run)
    _check_releasable(run, plan, rounds, trained.state)
    decision = _decision(run, plan, rounds, override)
    version = 1 + max((v.version for v in registry.model_versions() if v.name == plan.name), default=0)
    facts = _card_facts(run, plan, rounds, trained, version, decision)
    if decision is not None:
        record_override(registry, run.run, decision)
    folder = models / plan.name / str(version)
    with_manifest = _Draft(folder, facts, trained, identity, now)
    manifest_sha256 = with_manifest.write(tokenizer)
    return registry.add_model_version(
        ModelVersion(
            name=plan.name,
            version=version,
            run=run.run,
            path=f"{plan.name}/{version}",
            manifest_sha256=manifest_sha256,
            transcript_sha256=trained.transcript_sha256,
            signer=identity.public_key.hex(),
            metric=final_metric(rounds),
        )
    )


@dataclass(frozen=True, slots=True)
class _Draft:
    """A version's directory before it has its name."""

    folder: Path
    facts: CardFacts
    trained: TrainedModel
    identity: Identity
    now: datetime

    def write(self, tokenizer: Path | None) -> str:
        """Writes all files beside the final place, renames the folder, and returns the manifest's hash."""
        draft = self.folder.with_name(f".{self.folder.name}.draft")
        # Neither a draft nor a folder without a row is anyone's model: both are left by a process that died here.
        for leftover in (draft, self.folder):
            shutil.rmtree(leftover, ignore_errors=True)
        draft.mkdir(parents=True)
        for name, content in (self._contents() | _tokenizer_contents(tokenizer)).items():
            write_file(draft / name, content)
        manifest = sign_manifest(self._manifest(draft), self.identity)
        write_file(draft / "manifest.json", manifest)
        digest = file_sha256(draft / "manifest.json")
        draft.rename(self.folder)
        _sync_folder(self.folder.parent)
        return digest

    def _contents(self) -> dict[str, bytes]:
        state, plan = self.trained.state, self.facts.plan
        tensors = {f"{PEFT_PREFIX}{name}": np.ascontiguousarray(values, np.float32) for name, values in state.tensors.items()}
        return {
            ADAPTER_FILE: save(tensors, metadata={"format": "pt"}),
            "adapter_config.json": _json(adapter_config(plan, state.tensors)),
            "plan.json": plan.canonical(),
            "README.md": model_card(self.facts).encode(),
        }

    def _manifest(self, draft: Path) -> dict[str, Any]:
        run, state = self.facts.run, self.trained.state
        return {
            "schema": 1,
            "name": self.facts.name,
            "version": self.facts.version,
            "run": run.run,
            "plan_sha256": run.plan_sha256,
            "base": {"name": self.facts.plan.base.name, "sha256": run.base_sha256},
            "terms_sha256": run.terms_sha256,
            "round": state.round,
            "state_sha256": state_hash(state).hex(),
            "transcript_sha256": self.trained.transcript_sha256,
            "experts": {str(layer): list(state.experts[layer]) for layer in sorted(state.experts)},
            "released_at": self.now.isoformat(timespec="seconds"),
            "files": {path.name: file_sha256(path) for path in sorted(draft.iterdir())},
        }


def _check_releasable(run: Run, plan: Plan, rounds: Sequence[Round], state: State) -> None:
    if run.state is not RunState.FINISHED or run.plan_sha256 != plan.sha256 or not rounds:
        raise ReleaseRefused(f"run {run.run} is {run.state.value}; only a finished run of this plan is released")
    if state_hash(state).hex() != rounds[-1].state_sha256:
        raise ReleaseRefused(f"the state given for release is not the one that round {rounds[-1].number} of {run.run} ended with")


def _decision(run: Run, plan: Plan, rounds: Sequence[Round], reason: str) -> Override | None:
    """The override, if one is needed."""
    faults = unmet(plan, rounds)
    if not faults:
        return None
    if not reason:
        raise ReleaseRefused(f"run {run.run} is not released: {'; '.join(faults)}")
    return Override(reason, faults)


def _card_facts(run: Run, plan: Plan, rounds: Sequence[Round], trained: TrainedModel, version: int, override: Override | None) -> CardFacts:
    return CardFacts(
        name=plan.name,
        version=version,
        run=run,
        plan=plan,
        rounds=rounds,
        experts=dict(trained.state.experts),
        tensors=len(trained.state.tensors),
        parameters=sum(values.size for values in trained.state.tensors.values()),
        threshold=trained.threshold,
        colluding=trained.colluding,
        transcript_sha256=trained.transcript_sha256,
        override=override,
    )


def _tokenizer_contents(tokenizer: Path | None) -> dict[str, bytes]:
    if tokenizer is None:
        return {}
    return {name: (tokenizer / name).read_bytes() for name in TOKENIZER_FILES if (tokenizer / name).is_file()}


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
