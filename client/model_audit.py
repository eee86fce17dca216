"""A released version against what this institution knows by itself: the coordinator's key, the plan it accepted, the state it came to.

A coordinator may sign whatever it likes. What it signed is the run's model if its tensors are, bit for bit, those of the state that this
institution computed from the opened sums; who missed the last of them has the signature alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.errors import LedgerError
from client.institution import Membership
from client.ledger import Ledger
from client.ledger_rows import Position
from model.errors import ModelError
from model.release import Release, read_release
from protocols.audit import Audit
from protocols.errors import ReleaseBroken
from protocols.plan import Plan, plan_from_canonical
from protocols.release import verify_release
from protocols.schedule import planned_sums
from protocols.state import State, load_state, state_hash

WORDS = "What the model card says in words, peft's configuration and the tokenizer's files: they are the coordinator's, as signed."
WITHDRAWN = "Whether the version was withdrawn since: `consortium client models list` asks the coordinator."
TELL = "do not use it, and tell the other institutions"


def audit_model(folder: Path, membership: Membership, ledger: Ledger) -> Audit:
    """What this institution's roster and ledger prove of a version's directory."""
    audit = Audit("this institution", unproved=[WORDS, WITHDRAWN])
    manifest = audit.read(verify_release, folder, membership.coordinator_key)
    if manifest is None:
        return audit
    audit.proved.append("The coordinator's key of roster.toml signed the manifest, and every file is the one that was signed.")
    accepted = ledger.plan(str(manifest.get("run")))
    if accepted is None:
        audit.unproved.append(f"Whether it comes from a run of this consortium: the ledger knows no run {manifest.get('run')!r}.")
        return audit
    audit.attempt(_plan, folder, manifest, accepted)
    _against_ledger(audit, folder, manifest, plan_from_canonical(accepted), ledger)
    return audit


def _plan(folder: Path, manifest: Mapping[str, Any], accepted: bytes) -> str:
    digest, plan = hashlib.sha256(accepted).hexdigest(), plan_from_canonical(accepted)
    base = {"name": plan.base.name, "sha256": plan.base.sha256}
    said = (manifest.get("plan_sha256"), manifest.get("base"), manifest.get("terms_sha256"))
    if said != (digest, base, plan.terms_sha256) or (folder / "plan.json").read_bytes() != accepted:
        raise ReleaseBroken(f"{folder}: not of the plan, base and terms that this institution accepted for its run; {TELL}")
    return f"Plan, base and terms are those that this institution accepted for run {manifest['run']}."


def _against_ledger(audit: Audit, folder: Path, manifest: Mapping[str, Any], plan: Plan, ledger: Ledger) -> None:
    run, sums = manifest["run"], len(planned_sums(plan))
    position = ledger.position(run)
    if position is None or position.finished < sums:
        done = 0 if position is None else position.finished
        audit.unproved.append(
            f"Whether its tensors are those that the sums led to: this institution followed {done} of the {sums} sums of run {run}."
        )
        return
    audit.attempt(_end, folder, manifest, position)
    audit.attempt(_tensors, folder, run, position, ledger)


def _end(folder: Path, manifest: Mapping[str, Any], position: Position) -> str:
    if (manifest.get("transcript_sha256"), manifest.get("state_sha256")) != (position.transcript.hex(), position.state_hash.hex()):
        raise ReleaseBroken(f"{folder}: names another last transcript or state than this institution came to; {TELL}")
    return "It names the last transcript and the final state that this institution came to by itself."


def _tensors(folder: Path, run: str, position: Position, ledger: Ledger) -> str:
    state = _own_state(run, position, ledger)
    try:
        release = read_release(folder)
    except ModelError as error:
        raise ReleaseBroken(f"{folder}: signed, and yet not usable ({error}); {TELL}") from None
    if not _same(state, release):
        raise ReleaseBroken(f"{folder}: its tensors or experts are not those of the run's final state; {TELL}")
    return "Its tensors and experts are, bit for bit, those of the final state on this institution's own disk."


def _own_state(run: str, position: Position, ledger: Ledger) -> State:
    path = ledger.state_path(run, position.state_hash)
    state = load_state(path)
    if state_hash(state) != position.state_hash:
        raise LedgerError(f"{path}: not the state that its name says; restore the institution's home from a backup")
    return state


def _same(state: State, release: Release) -> bool:
    experts = dict(state.experts) == dict(release.experts)
    return experts and _bytes(state.tensors) == _bytes(release.tensors)


def _bytes(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """By name: shape, and a hash of the values, in which -0.0 and 0.0 differ."""
    return {
        name: (values.shape, hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).digest()) for name, values in tensors.items()
    }
