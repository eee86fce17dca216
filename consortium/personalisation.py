"""Every institution's own model at the end of a simulated run: what it kept to itself, tuned on its own records if the plan says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from client.personal import Personal, PersonalFiles
from client.personal_training import has_own_model, own_model
from client.tuned_release import write_tuned
from client.tuning import tune
from client.workbench import Workbench
from consortium.workplace import Workplace
from model.release import Release
from protocols.plan import Plan
from protocols.state import State


@dataclass(frozen=True, slots=True)
class TuneProgress:
    """Sections done of an institution's tune-up."""

    name: str
    done: int
    total: int


def is_personal(plan: Plan) -> bool:
    """Whether the plan leaves institutions with models of their own."""
    return has_own_model(plan) or plan.personalisation.tune_steps > 0


def kept_by(place: Workplace, name: str, run: str) -> Personal:
    """What an institution kept to itself in a finished run."""
    return PersonalFiles(Path(place.settings(name).storage.home), run).newest(place.plan.rounds) or Personal()


def own_models(
    place: Workplace,
    benches: Mapping[str, Workbench],
    state: State,
    kept: Mapping[str, Personal],
    release: Release | None,
    on_progress: Callable[[TuneProgress], None],
) -> dict[str, State]:
    """Institution -> its own model; a tuned one is also written to its folder, if the shared one was released."""
    models = {name: own_model(state, personal) if personal.tensors else state for name, personal in kept.items()}
    terms = place.plan.personalisation
    if not terms.tune_steps:
        return models
    for name, bench in benches.items():

        def told(done: int, total: int, name: str = name) -> None:
            on_progress(TuneProgress(name, done, total))

        tuned = tune(bench, state, models[name], terms.tune_steps, terms.tune_learning_rate, told)
        if release is not None:
            write_tuned(release, place.institutions / name, tuned, place.plan)
        models[name] = tuned.state
    return models
