"""What an event says about a row: the same function writes it and, in an audit, is compared with the row."""

from __future__ import annotations

from typing import Any

from coordinator.registry.records import ModelVersion, NewRun, Participant, Round, Run


def run_body(run: Run | NewRun) -> dict[str, Any]:
    """What was submitted; the plan itself is in its hash."""
    names = ("plan_name", "plan_sha256", "base_sha256", "terms_sha256", "seed", "rounds", "metric", "higher_is_better")
    return {name: getattr(run, name) for name in names}


def round_body(finished: Round) -> dict[str, Any]:
    """Everything that the row and its contributions hold, aside from the time, which the event carries itself."""
    experts = finished.experts
    # Left out where nothing was spent, as in events that were written before anything could be.
    spent = {"spent": [[one.institution, one.epsilon, one.delta] for one in finished.spent]} if finished.spent else {}
    return {
        "number": finished.number,
        "state_sha256": finished.state_sha256,
        "transcripts": [[name, digest] for name, digest in finished.transcripts.items()],
        "experts": None if experts is None else {str(layer): list(experts[layer]) for layer in sorted(experts)},
        "loss": finished.loss,
        "metric": finished.metric,
        "figures": dict(finished.figures) or None,  # as in events of versions that had none
        "seconds": finished.seconds,
        "contributions": [[p.institution, p.bytes_up, p.bytes_down, p.missing_from] for p in finished.contributions],
        **spent,
    }


def participant_body(participant: Participant) -> dict[str, Any]:
    return {"name": participant.name, "public_key": participant.public_key}


def model_version_body(version: ModelVersion) -> dict[str, Any]:
    names = ("name", "version", "path", "manifest_sha256", "transcript_sha256", "signer", "metric")
    return {name: getattr(version, name) for name in names}
