"""Rows of the registry against the events that were written with them: neither without the other, and no field different."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coordinator.errors import ChainBroken
from coordinator.registry.bodies import approval_body, model_version_body, revocation_body, round_body, run_body
from coordinator.registry.reading import CHANGED
from coordinator.registry.records import Event, ModelVersion, Participant, Round, Run
from coordinator.submitted_plan import check_plan
from protocols.audit import counted

Body = Mapping[str, Any]
OF_PARTICIPANTS = ("participant-joined", "participant-approved", "participant-rotated", "participant-revoked", "certificate-renewed")


def audit_participants(participants: Sequence[Participant], events: Sequence[Event]) -> str:
    """Raises ChainBroken, as all of these, at the first difference."""
    present = [approval_body(one) | revocation_body(one) for one in participants]
    _compare("participants", ("name",), present, _participants_of(events))
    return f"The keys of {counted(len(participants), 'institution')} are those that joined." if participants else ""


def keys_before_return(events: Sequence[Event]) -> frozenset[tuple[str, str]]:
    """Name and key (hexadecimal) of institutions that were revoked with that key and then approved again, whatever key they have now.

    Raises:
        ChainBroken: an event is not readable.
    """
    held, gone, found = dict[str, str](), dict[str, str](), set[tuple[str, str]]()
    for event in (event for event in events if event.kind in OF_PARTICIPANTS):
        body = _body(event)
        name, key = str(body.get("name")), str(body.get("new_key") or body.get("public_key") or "")
        if event.kind == "participant-revoked":
            gone[name] = held.get(name, "")
        elif event.kind == "participant-approved" and name in gone:
            found.add((name, gone.pop(name)))
        held[name] = key or held.get(name, "")
    return frozenset(found)


def audit_run(run: Run, events: Sequence[Event]) -> str:
    """Args: events: those of this run, here and below."""
    _compare("runs", (), [run_body(run)], _bodies(events, "run-submitted"), f" of run {run.run}")
    check_plan(run)
    said = _last(events, "run-state", {"state": "submitted", "reason": ""})
    if said.get("state") != run.state.value:
        raise ChainBroken(
            f"run {run.run} is {run.state.value} in its row, but {said.get('state', 'in no state')} in the event chain; restore a backup"
        )
    wanted = _last(events, "run-wanted", {"wanted": "running"})
    for field, value, written in (("reason", run.reason, said.get("reason")), ("wanted", run.wanted.value, wanted.get("wanted"))):
        if value != written:
            raise ChainBroken(f"run {run.run}: `{field}` in its row is not what the event chain says; {CHANGED}")
    return f"Run {run.run} was submitted with plan {run.plan_sha256[:12]}… and is {run.state.value}."


def audit_rounds(run: str, events: Sequence[Event], rounds: Sequence[Round]) -> str:
    """Rounds with their contributions."""
    _compare("rounds", ("number",), [round_body(one) for one in rounds], _bodies(events, "round-finished"), f" of run {run}")
    hashes = counted(sum(len(one.transcripts) for one in rounds), "transcript hash", "transcript hashes")
    are = "is as it was" if len(rounds) == 1 else "are as they were"
    spends = " and what was spent," if any(one.spent for one in rounds) else ""
    return f"{counted(len(rounds), 'round')} of run {run}, with {hashes} and who contributed,{spends} {are} recorded." if rounds else ""


def audit_models(run: str, events: Sequence[Event], versions: Sequence[ModelVersion]) -> str:
    """Rows of released models."""
    bodies = [model_version_body(one) | {"withdrawn_reason": one.withdrawn_reason} for one in versions]
    _compare("model_versions", ("name", "version"), bodies, _models_of(events), f" of run {run}")
    are = "is the one that was" if len(versions) == 1 else "are those that were"
    return f"{counted(len(versions), 'model version')} of run {run} {are} released." if versions else ""


def _participants_of(events: Sequence[Event]) -> list[Body]:
    """Institutions as their events leave them; one whose first event is missing has no name, so that no row agrees."""
    found: dict[Any, dict[str, Any]] = {}
    for event in events:
        if event.kind not in OF_PARTICIPANTS:
            continue
        body = _body(event)
        row = found.setdefault(body.get("name"), {"node_key": None, "certificate_sha256": None, "reason": ""})
        if event.kind == "participant-rotated":
            row["public_key"] = body.get("new_key")
        else:
            row |= {"reason": "", **body}
    return list(found.values())


def _models_of(events: Sequence[Event]) -> list[Body]:
    """Released versions as their events leave them."""
    withdrawn = {(body.get("name"), body.get("version")): body.get("reason") for body in _bodies(events, "model-withdrawn")}
    released = _bodies(events, "model-released")
    return [body | {"withdrawn_reason": withdrawn.get((body.get("name"), body.get("version")), "")} for body in released]


def _compare(table: str, names: Sequence[str], rows: Sequence[Body], written: Sequence[Body], of: str = "") -> None:
    """Args: names: the fields that say which row it is; none where there is one alone."""
    kept, said = _by_name(rows, names), _by_name(written, names)
    for name in [*said, *(name for name in kept if name not in said)]:
        where = f"`{table}`{of}" + (f", {' '.join(names)} {name}" if names else "")
        if name not in kept:
            raise ChainBroken(f"{where}: an event of the chain says that it was written, and there is no such row; {CHANGED}")
        if name not in said:
            raise ChainBroken(f"{where}: there is a row, and no event of the chain says that it was written; {CHANGED}")
        fields = [field for field, value in kept[name].items() if _text(value) != _text(said[name].get(field))]
        if fields:
            raise ChainBroken(f"{where}: {', '.join(f'`{field}`' for field in fields)} not as the event chain says; {CHANGED}")
    if len(rows) != len(written):
        raise ChainBroken(f"`{table}`{of}: {len(rows)} rows, and the event chain says {len(written)}; {CHANGED}")


def _by_name(bodies: Iterable[Body], names: Sequence[str]) -> dict[str, Body]:
    return {" ".join(str(body.get(name)) for name in names): body for body in bodies}


def _last(events: Iterable[Event], kind: str, first: Body) -> Body:
    bodies = _bodies(events, kind)
    return bodies[-1] if bodies else first


def _bodies(events: Iterable[Event], kind: str) -> list[dict[str, Any]]:
    return [_body(event) for event in events if event.kind == kind]


def _body(event: Event) -> dict[str, Any]:
    try:
        body = json.loads(event.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ChainBroken(f"event {event.sequence} ({event.kind}) is not readable; {CHANGED}")
    return body


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)
