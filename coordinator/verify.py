"""An audit of the registry: what it proves, what is wrong, and what cannot be known from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from coordinator.counted_again import verify_faults, verify_totals
from coordinator.countersigned import SignedRun, verify_signed
from coordinator.errors import ChainBroken, ReleaseBroken
from coordinator.manifest import file_sha256, verify_release
from coordinator.registry.bodies import model_version_body, participant_body, round_body, run_body
from coordinator.registry.records import Event, ModelVersion, Round, Run
from coordinator.registry.registry import Registry
from protocols.audit import Audit
from protocols.parties import Parties

NOT_COUNTED = (
    "Whether totals are the sums of what was sent: institutions looked at chunks that they drew; --full counts what is kept again."
)
NOT_PROVED = (
    "Whether institutions trained on the records they say, and reported true figures.",
    "Whether the signing key belongs to the coordinator: compare its fingerprint with one obtained by another way.",
)
UNKNOWN_KEYS = "Whether the institutions' keys are theirs: give an institution's roster.toml with --roster."


def verify_registry(
    registry: Registry, models: Path, run: str | None = None, runs: Path | None = None, parties: Parties | None = None, full: bool = False
) -> Audit:
    """Checks the event chain, every row of one run, or of all, against the events, and both against what institutions signed.

    Args:
        models: folder that the paths of model versions are relative to.
        run: a run's id; None looks at all runs.
        runs: folder of the runs' transcripts; `runs` beside the models if None.
        parties: keys from an institution; None takes those of the registry.
        full: whether totals are counted again from the uploads that are still kept.
    """
    events = registry.events()
    unproved = [*NOT_PROVED, *([UNKNOWN_KEYS] if parties is None else []), *([] if full else [NOT_COUNTED])]
    audit = Audit("this registry", unproved=unproved)
    audit.attempt(_chain, registry)
    audit.attempt(_participants, registry, events)
    countersigned = 0
    for one in (registry.run(run),) if run is not None else registry.runs():
        _verify_run(audit, registry, one, [event for event in events if event.run == one.run], models)
        signed = SignedRun(one.run, registry.rounds(one.run), registry.participants(), parties)
        directory = (runs or models.parent / "runs") / one.run
        countersigned = max(countersigned, verify_signed(audit, signed, directory, events))
        verify_faults(audit, one.run, directory, parties)
        if full:
            verify_totals(audit, one.run, directory, parties)
    if countersigned < len(events):
        audit.unproved.append(f"Events {countersigned + 1} to {len(events)} of the chain: no institution countersigned them.")
    return audit


def _verify_run(audit: Audit, registry: Registry, run: Run, events: Sequence[Event], models: Path) -> None:
    rounds, versions = registry.rounds(run.run), registry.model_versions(run.run)
    audit.attempt(_run, run, events)
    audit.attempt(_rounds, run, events, rounds)
    audit.attempt(_models, run, events, versions)
    for version in versions:
        audit.attempt(_files, version, rounds, models)
    if not versions:
        audit.unproved.append(f"Run {run.run} released no model, so there are no files to compare.")


def _chain(registry: Registry) -> str:
    head = registry.verify_chain()
    return f"The event chain is whole: {head.length} events, head {head.hash.hex()}."


def _participants(registry: Registry, events: Sequence[Event]) -> str:
    participants = registry.participants()
    _compare("participants", [participant_body(one) for one in participants], _bodies(events, "participant-joined"))
    return f"The keys of {len(participants)} institutions are those that joined."


def _run(run: Run, events: Sequence[Event]) -> str:
    _compare(f"run {run.run}", [run_body(run)], _bodies(events, "run-submitted"))
    states = _bodies(events, "run-state")
    written = states[-1] if states else {"state": "submitted", "reason": ""}
    if {"state": run.state.value, "reason": run.reason} != written:
        said = written.get("state", "in no state")
        raise ChainBroken(f"run {run.run} is {run.state.value} in its row, but {said} in the event chain; restore a backup")
    return f"Run {run.run} was submitted with plan {run.plan_sha256[:12]}… and is {run.state.value}."


def _rounds(run: Run, events: Sequence[Event], rounds: Sequence[Round]) -> str:
    _compare(f"rounds of run {run.run}", [round_body(one) for one in rounds], _bodies(events, "round-finished"))
    sums = sum(len(one.transcripts) for one in rounds)
    return f"{len(rounds)} rounds of run {run.run}, with {sums} transcript hashes and who contributed, are as they were recorded."


def _models(run: Run, events: Sequence[Event], versions: Sequence[ModelVersion]) -> str:
    _compare(f"models of run {run.run}", [model_version_body(one) for one in versions], _bodies(events, "model-released"))
    return f"{len(versions)} model versions of run {run.run} are those that were released."


def _files(version: ModelVersion, rounds: Sequence[Round], models: Path) -> str:
    what = f"model {version.name} {version.version}"
    folder = models / version.path
    manifest = verify_release(folder, _signer(version))
    if file_sha256(folder / "manifest.json") != version.manifest_sha256:
        raise ReleaseBroken(f"{folder / 'manifest.json'}: signed, but not the manifest that the registry names; get this model again")
    transcripts = rounds[-1].transcripts.values() if rounds else ()
    if manifest["transcript_sha256"] not in transcripts or manifest["state_sha256"] != rounds[-1].state_sha256:
        raise ReleaseBroken(f"{folder / 'manifest.json'}: names another state or transcript than the last round of run {version.run}")
    return f"The files of {what} are those signed with key {version.signer[:16]}…, and belong to the last round of run {version.run}."


def _signer(version: ModelVersion) -> bytes:
    try:
        return bytes.fromhex(version.signer)
    except ValueError:
        raise ChainBroken(
            f"model {version.name} {version.version}: its signer is no key; the registry was changed, restore a backup"
        ) from None


def _bodies(events: Iterable[Event], kind: str) -> list[dict[str, Any]]:
    return [_body(event) for event in events if event.kind == kind]


def _body(event: Event) -> dict[str, Any]:
    try:
        body = json.loads(event.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ChainBroken(f"event {event.sequence} ({event.kind}) is not readable; the registry was changed, restore a backup")
    return body


def _compare(what: str, rows: list[dict[str, Any]], written: list[dict[str, Any]]) -> None:
    if sorted(map(_key, rows)) != sorted(map(_key, written)):
        raise ChainBroken(f"{what}: the rows are not what the event chain says was written; the registry was changed, restore a backup")


def _key(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True)
