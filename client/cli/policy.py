"""`consortium client policy` and `consortium client policy explain`: 0 is shown, 1 the file is wrong, 2 wrong use."""

from __future__ import annotations

from pathlib import Path

import typer

from client.cli.ledger import InstitutionOption, JsonOption, Options, check_folder, print_json, told

app = typer.Typer(help="Show this institution's policy, or explain it.")


@app.callback(invoke_without_command=True)
def show(context: typer.Context, institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """Show this institution's policy, or explain it."""
    context.obj = Options(institution, as_json)
    if context.invoked_subcommand is not None:
        return
    from client.spending import policy_of
    from protocols.commented import commented

    folder = institution or Path()
    with told(as_json):
        check_folder(folder)
        policy = policy_of(folder)
    if as_json:
        print_json({"schema": 1, "policy": policy.model_dump(mode="json")})
    else:
        typer.echo("\n".join(commented(policy)))


@app.command()
def explain(context: typer.Context, institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """Say in sentences what the policy allows, and what it does not limit."""
    from client.policy_text import explain as sentences
    from client.spending import policy_of

    before: Options = context.obj
    as_json, folder = as_json or before.as_json, institution or before.institution or Path()
    with told(as_json):
        check_folder(folder)
        lines = sentences(policy_of(folder))
    if as_json:
        print_json({"schema": 1, "sentences": lines})
    else:
        typer.echo("\n".join(f"- {line}" for line in lines))
