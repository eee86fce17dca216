"""`consortium client tune`: 0 is tuned, also where the shared model stayed the best; 1 something failed; 2 wrong use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.cli.ledger import InstitutionOption, JsonOption, WrongUse, check_folder, print_json, told

StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="Instead of the plan's personalisation.tune_steps.")]
RateOption = Annotated[
    float | None, typer.Option("--learning-rate", min=1e-12, help="Instead of the plan's personalisation.tune_learning_rate.")
]


def tune(
    release: Annotated[Path, typer.Argument(metavar="VERSION", help="A released version's folder, models/NAME/NUMBER.")],
    institution: InstitutionOption = None,
    steps: StepsOption = None,
    learning_rate: RateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tune a released model on this institution's own records; what comes out stays in the institution's folder."""
    from client.tuned_release import tune_release

    folder = institution or Path()
    with told(as_json):
        check_folder(folder)
        if not release.is_dir():
            raise WrongUse(f"{release} is no folder; give a released version's, models/NAME/NUMBER")
        kept = tune_release(release, folder, steps=steps, learning_rate=learning_rate, on_section=_tell)
    tuned = kept.tuned
    if as_json:
        print_json(
            {
                "schema": 1,
                "model": str(kept.folder),
                "metric": kept.metric,
                "held_out": tuned.held_out,
                "shared": tuned.before,
                "kept": tuned.after,
                "step": tuned.step,
                "steps": tuned.steps,
            }
        )
        return
    which = f"the model after step {tuned.step} of {tuned.steps}" if tuned.step else "no step: the model it began with"
    typer.echo(f"{kept.metric} on {tuned.held_out} held-out training records: {tuned.before:.3f} shared, {tuned.after:.3f} kept ({which})")
    typer.echo(f"Own model: {kept.folder}")


def _tell(done: int, total: int) -> None:
    """On standard error, so that a program reads the answer alone."""
    typer.echo(f"tuned {done} of {total} sections", err=True)
