"""An audit of the registry: what it proves, what is wrong, and what cannot be known from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.counted_again import verify_faults, verify_kept_files, verify_totals
from coordinator.countersigned import SignedRun, named_transcripts, verify_signed
from coordinator.errors import ChainBroken, RegistryError
from coordinator.gate import audit_gate
from coordinator.registry.reading import CHANGED
from coordinator.registry.records import Event, ModelVersion, Participant, Rotation, Round, Run
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState
from coordinator.row_audit import audit_models, audit_participants, audit_rounds, audit_run, keys_before_return
from coordinator.submitted_plan import kept_for, promise_of
from coordinator.transcripts import KeptTranscripts, kept_parties, kept_transcripts
from protocols.audit import Audit, counted
from protocols.errors import ReleaseBroken
from protocols.parties import Parties
from protocols.release import file_sha256, verify_release

NOT_COUNTED = (
    "Whether totals are the sums of what was sent: institutions looked at chunks that they drew; --full counts what is kept again."
)
NOT_PROVED = (
    "Whether institutions trained on the records they say, and reported true figures.",
    "Whether the signing key belongs to the coordinator: compare its fingerprint with one obtained by another way.",
)
UNKNOWN_KEYS = "Whether the institutions' keys are theirs: give an institution's roster.toml with --roster."


@dataclass(frozen=True, slots=True)
class _Source:
    """What all runs of one audit share."""

    registry: Registry
    events: Sequence[Event]
    participants: Sequence[Participant] | None  # None where their rows cannot be read
    rotations: Sequence[Rotation]
    given_up: frozenset[tuple[str, str]]  # keys that institutions had before they were revoked and came back
    models: Path
    runs: Path
    parties: Parties | None
    full: bool


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
    participants = audit.read(registry.participants)
    if participants is not None:
        audit.attempt(audit_participants, participants, events)
    rotations = audit.read(registry.rotations) or ()
    source = _Source(registry, events, participants, rotations, _given_up(events), models, runs or models.parent / "runs", parties, full)
    chosen = _named(registry, events) if run is None else (run,)
    countersigned = max((_verify_run(audit, source, name) for name in chosen), default=0)
    if countersigned < len(events):
        left = f"Events {countersigned + 1} to {len(events)} of the chain" if countersigned + 1 < len(events) else f"Event {len(events)}"
        audit.unproved.append(f"{left}: no institution countersigned {'it' if left.startswith('Event ') else 'them'}.")
    return audit


def run_named(registry: Registry, run: str) -> str:
    """The id of a run of the rows or of the event chain, by its beginning if that fits one alone.

    Raises:
        RegistryError: there is none, or more than one.
    """
    names = _named(registry, registry.events())
    found = [run] if run in names else [name for name in names if run and name.startswith(run)]
    if len(found) == 1:
        return found[0]
    fault = "more than one run begins with" if found else "there is no run"
    raise RegistryError(f"{fault} {run!r}; `consortium coordinator runs` lists them")


def _named(registry: Registry, events: Sequence[Event]) -> tuple[str, ...]:
    """Runs of the rows, and those that were submitted by the event chain."""
    return tuple(dict.fromkeys([*registry.run_names(), *(one.run for one in events if one.kind == "run-submitted" and one.run)]))


def _given_up(events: Sequence[Event]) -> frozenset[tuple[str, str]]:
    """None where an event cannot be read, which the audit of the participants says."""
    try:
        return keys_before_return(events)
    except ChainBroken:
        return frozenset()


def _verify_run(audit: Audit, source: _Source, run: str) -> int:
    """Returns the number of events that institutions countersigned in this run."""
    if run not in source.registry.run_names():
        audit.failed.append(f"`runs` has no row of run {run}, and the event chain says that it was submitted; {CHANGED}")
        return 0
    events = [event for event in source.events if event.run == run]
    row = audit.read(source.registry.run, run)
    if row is not None:
        audit.attempt(audit_run, row, events)
    rounds = audit.read(source.registry.rounds, run)
    if rounds is not None:
        audit.attempt(audit_rounds, run, events, rounds)
    if row is not None:
        _verify_promise(audit, row)
    _verify_models(audit, source, run, row, events, rounds)
    directory = source.runs / run
    verify_faults(audit, run, directory, source.parties)
    if rounds is None:
        audit.unproved.append(f"What institutions signed of run {run}: without its rounds there is nothing to compare it with.")
        return 0
    finished = row is not None and row.state is RunState.FINISHED
    signed = SignedRun(run, rounds, source.participants, source.parties, finished, source.rotations, source.given_up)
    kept = audit.read(named_transcripts, audit, signed, kept_transcripts(directory))
    return 0 if kept is None else _verify_sums(audit, source, signed, kept, row)


def _verify_promise(audit: Audit, run: Run) -> None:
    promise = promise_of(run)
    if promise is not None:
        audit.attempt(lambda: f"Run {run.run} was submitted as {promise}.")
        audit.unproved.append(f"Whether institutions added the noise of run {run.run}: their own ledgers say what each spent.")


def _verify_models(
    audit: Audit, source: _Source, run: str, row: Run | None, events: Sequence[Event], rounds: Sequence[Round] | None
) -> None:
    versions = audit.read(source.registry.model_versions, run)
    if versions is None:
        return
    audit.attempt(audit_models, run, events, versions)
    for version in versions:
        audit.attempt(_files, version, rounds, source.models)
    if versions and rounds and row is not None:
        audit.attempt(audit_gate, row, rounds, events)
    if not versions:
        audit.unproved.append(f"Run {run} released no model, so there are no files to compare.")


def _verify_sums(audit: Audit, source: _Source, signed: SignedRun, kept: KeptTranscripts, row: Run | None) -> int:
    """The transcripts, and the files beside them that they name."""
    before = len(audit.failed)
    countersigned = verify_signed(audit, signed, kept, source.events)
    if len(audit.failed) > before:  # only what the registry names is known to be a transcript
        recorded = {(one.number, name) for one in signed.rounds for name in one.transcripts}
        kept = kept.without(kept.transcripts.keys() - recorded)
    last = max((one.number for one in signed.rounds), default=-1)
    countable = verify_kept_files(audit, kept, last, kept_for(row) if row is not None else 0)
    parties = (source.parties or audit.read(kept_parties, kept.directory)) if source.full and kept.transcripts else None
    if parties is not None:
        verify_totals(audit, signed.run, countable, len(kept.transcripts) - len(countable), parties)
    return countersigned


def _chain(registry: Registry) -> str:
    head = registry.verify_chain()
    return f"The event chain is whole: {counted(head.length, 'event')}, head {head.hash.hex()}." if head.length else ""


def _files(version: ModelVersion, rounds: Sequence[Round] | None, models: Path) -> str:
    what = f"model {version.name} {version.version}"
    folder = models / version.path
    manifest = verify_release(folder, _signer(version))
    if file_sha256(folder / "manifest.json") != version.manifest_sha256:
        raise ReleaseBroken(f"{folder / 'manifest.json'}: signed, but not the manifest that the registry names; get this model again")
    if rounds is None:  # their rows cannot be read, which is said already
        return f"The files of {what} are those signed with key {version.signer[:16]}…."
    transcripts = rounds[-1].transcripts.values() if rounds else ()
    if manifest["transcript_sha256"] not in transcripts or manifest["state_sha256"] != rounds[-1].state_sha256:
        raise ReleaseBroken(f"{folder / 'manifest.json'}: names another state or transcript than the last round of run {version.run}")
    return f"The files of {what} are those signed with key {version.signer[:16]}…, and belong to the last round of run {version.run}."


def _signer(version: ModelVersion) -> bytes:
    try:
        return bytes.fromhex(version.signer)
    except ValueError:
        raise ChainBroken(f"model {version.name} {version.version}: its signer is no key; {CHANGED}") from None
