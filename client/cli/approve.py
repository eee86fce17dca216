"""`consortium client approve`: 0 is listed or decided, 1 something failed, 2 wrong use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.ledger import InstitutionOption, JsonOption, WrongUse, at, opened, print_json, told
from client.cli.terminal import echo_lines

if TYPE_CHECKING:
    from client.approvals import WaitingPlan
    from client.ledger import Ledger

RunArgument = Annotated[str, typer.Argument(metavar="[RUN]", help="The run to decide upon, or the beginning of its id.")]
RefuseOption = Annotated[str, typer.Option("--refuse", metavar="REASON", help="Refuse it; the operator reads the reason.")]
TermsOption = Annotated[
    Path | None, typer.Option("--terms", metavar="FILE", help="The terms of use that were read; compared with those of the plan.")
]


def approve(
    run: RunArgument = "",
    refuse: RefuseOption = "",
    terms: TermsOption = None,
    institution: InstitutionOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the plans that wait for this institution's approval; with RUN, approve one, or refuse it."""
    from client.approvals import decide, waiting_plans
    from client.settings import load_settings

    folder = institution or Path()
    with told(as_json), opened(folder) as (ledger, membership):
        waiting = waiting_plans(ledger, load_settings(folder / "institution.toml"))
        if not run and (refuse or terms):
            raise WrongUse("say which run is decided upon; without one the waiting plans are listed")
        if not run:
            _list(waiting, membership.name, at(folder), as_json)
            return
        chosen = _chosen(ledger, waiting, run)
        if not as_json:
            echo_lines(chosen.summary.lines())
        decision = decide(ledger, chosen, refuse, terms)
    if as_json:
        print_json({"schema": 1, "run": chosen.summary.run, **decision.model_dump(mode="json")})
    elif decision.accepted:
        read = "compared with the text" if decision.terms_read else "the text was not compared; give it with --terms"
        typer.echo(f"Approved ({read}). The node signs it when the coordinator asks next." if decision.terms_sha256 else "Approved.")
    else:
        typer.echo("Refused. The operator reads the reason when the coordinator asks next.")


def _list(waiting: list[WaitingPlan], name: str, here: str, as_json: bool) -> None:
    if as_json:
        print_json({"schema": 1, "institution": name, "waiting": [one.document() for one in waiting]})
    else:
        echo_lines([line for one in waiting for line in (*one.lines(), "")][:-1] or [f"no plan waits for the approval of {name}"])
        if any(one.decision is None for one in waiting):
            typer.echo(f"\nDecide: consortium client approve RUN{here}, with --refuse REASON if not")


def _chosen(ledger: Ledger, waiting: list[WaitingPlan], run: str) -> WaitingPlan:
    found = [one for one in waiting if one.summary.run.startswith(run)]
    exact = [one for one in found if one.summary.run == run]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if ledger.plan(run) is not None:
        raise WrongUse(f"run {run} is accepted already; `consortium client withdraw {run}` ends this institution's part in it")
    fault = "more than one waiting run begins with" if found else "no plan waits for a decision in run"
    raise WrongUse(f"{fault} {run}; `consortium client approve` lists those that do")
