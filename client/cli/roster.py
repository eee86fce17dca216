"""`consortium client roster` with `accept`, `vouch` and `rotate`: whom this institution takes part with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.ledger import InstitutionOption, JsonOption, WrongUse, YesOption, at, check_folder, print_json, told
from client.cli.terminal import echo_lines, plain

if TYPE_CHECKING:
    from client.connection import Connection
    from client.institution import Membership
    from client.roster_book import Difference
    from protocols.roster import RosterEntry
    from protocols.roster_offer import OfferedInstitution

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The institution.")]
WordsOption = Annotated[str | None, typer.Option("--fingerprint", metavar="WORDS", help="The six words as the institution said them.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Show the own copy alone, without asking the coordinator.")]
KINDS = {
    "new": "is new",
    "new key": "has a new key",
    "revoked": "was revoked",
    "not offered": "is not offered any more",
    "days": "has other days",
    "own": "IS THIS INSTITUTION",
}

app = typer.Typer(help="Show this institution's roster against the coordinator's offer, or change it.")


@dataclass(frozen=True, slots=True)
class Options:
    """What was said before the name of a command holds for it too."""

    institution: Path | None
    as_json: bool


@app.callback(invoke_without_command=True)
def roster(
    context: typer.Context, institution: InstitutionOption = None, as_json: JsonOption = False, offline: OfflineOption = False
) -> None:
    """Show this institution's roster against the coordinator's offer, or change it."""
    context.obj = Options(institution, as_json)
    if context.invoked_subcommand is not None:
        return
    from client.institution import read_membership
    from client.roster_book import accept_vouched, differences
    from protocols.policy import load_policy

    folder = institution or Path()
    with told(as_json):
        check_folder(folder)
        offer = () if offline else _offer(folder)
        vouched = accept_vouched(folder, load_policy(folder / "policy.toml"), offer, _today()) if offer else ()
        membership = read_membership(folder)
        found = () if offline else differences(membership, offer)
    if as_json:
        print_json(_document(membership, found, vouched))
    else:
        echo_lines(_lines(membership, found, vouched, at(folder)))


@app.command()
def accept(
    context: typer.Context, name: NameArgument, fingerprint: WordsOption = None, yes: YesOption = False,
    institution: InstitutionOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Take over what the coordinator offers of NAME, once you compared its words with the institution itself.

    Who was revoked, or is offered no more, is taken off this roster, without a question if --yes is given; --yes compares no words.
    """
    from client.institution import read_membership
    from client.roster_book import accept as accept_offered
    from client.roster_book import differences

    options = _options(context, institution, as_json)
    folder = options.institution or Path()
    with told(options.as_json):
        check_folder(folder)
        offer = _offer(folder)
        shown = next((one for one in differences(read_membership(folder), offer) if one.name == name), None)
        if fingerprint is None and shown is not None and shown.kind != "own":
            _confirm(shown, options.as_json, yes)
        accepted = accept_offered(folder, name, offer, _today(), fingerprint)
    if options.as_json:
        print_json({"schema": 1, "ok": True, "accepted": _of(accepted)})
    else:
        typer.echo(f"{name} {KINDS[accepted.kind]}: {'off' if accepted.entry is None else 'on'} this roster from the next epoch on")


@app.command()
def vouch(context: typer.Context, name: NameArgument, institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """Sign for NAME's key on this roster, so that others may accept it by vouchers."""
    from client.roster_book import voucher_for
    from protocols.service import VOUCH

    options = _options(context, institution, as_json)
    folder = options.institution or Path()
    with told(options.as_json):
        check_folder(folder)
        signed = voucher_for(folder, name)
        with _service(folder) as service:
            service.call(VOUCH, signed)
    if options.as_json:
        print_json({"schema": 1, "ok": True, "subject": name, "public_key": signed.public_key.hex()})
    else:
        typer.echo(f"{signed.by} vouches for the key of {name}")


@app.command()
def rotate(context: typer.Context, institution: InstitutionOption = None, as_json: JsonOption = False) -> None:
    """Make a new identity key, signed by the present one; the other institutions accept it by its words."""
    import os

    from client.rotation import rotate as rotate_key
    from protocols.fingerprint import fingerprint
    from protocols.service import ROTATE

    options = _options(context, institution, as_json)
    folder = options.institution or Path()
    with told(options.as_json):
        check_folder(folder)
        with _service(folder) as service:
            new = rotate_key(folder, lambda request: service.call(ROTATE, request), os.urandom, _today())
    words = fingerprint(new.name, new.public_key)
    if options.as_json:
        print_json({"schema": 1, "ok": True, "institution": new.name, "fingerprint": words})
    else:
        typer.echo(f"{new.name} has a new identity key. Read these words to the other institutions:\n\n    {words}\n")


def _options(context: typer.Context, institution: Path | None, as_json: bool) -> Options:
    before: Options = context.obj
    return Options(institution or before.institution, as_json or before.as_json)


def _service(folder: Path) -> AbstractContextManager[Connection]:
    from datetime import UTC, datetime

    from client.connection import connect

    return connect(folder, lambda: datetime.now(UTC))


def _offer(folder: Path) -> tuple[OfferedInstitution, ...]:
    from client.roster_book import offer_of

    with _service(folder) as service:
        return offer_of(service)


def _today() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).date().isoformat()


def _confirm(change: Difference, as_json: bool, yes: bool) -> None:
    """Asks a person, who may take time for a telephone call. Raises WrongUse where none can be asked."""
    if as_json and change.fingerprint:
        raise WrongUse("with --json nobody can be asked; give the words that the institution said with --fingerprint")
    if change.fingerprint:
        typer.echo(f"{change.name} {KINDS[change.kind]}{_signed(change)}. Its words, as the coordinator has them:")
        typer.echo(f"\n    {change.fingerprint}\n")
        ask(f"Did {change.name} itself say the same words, by telephone or in person?", "give the words with --fingerprint")
    elif not as_json and not yes:
        reason = plain(change.reason) or "no reason given"
        ask(f"{change.name} {KINDS[change.kind]} ({reason}). Take it off this roster?", "give --yes to take it off")


def ask(question: str, instead: str) -> None:
    """Raises typer.Exit if the answer is no, WrongUse if there is none."""
    try:
        agreed = typer.confirm(question)
    except typer.Abort:
        raise WrongUse(f"nobody answered, and nothing was changed; {instead}") from None
    if not agreed:
        raise typer.Abort


def _signed(change: Difference) -> str:
    if change.kind != "new key":
        return ""
    return ", signed by its former one" if change.signed else ", which its former one did NOT sign"


def _lines(membership: Membership, found: Sequence[Difference], vouched: Sequence[Difference], here: str) -> list[str]:
    from protocols.fingerprint import fingerprint

    width = max(len(entry.name) for entry in membership.roster.entries)
    lines = [f"{entry.name.ljust(width)}  {fingerprint(entry.name, entry.public_key)}{_days(entry)}" for entry in membership.roster.entries]
    lines += [f"{one.name}: accepted, as {', '.join(one.vouched_by)} vouch for it" for one in vouched]
    lines += ["", "Otherwise in the coordinator's offer:"] if found else []
    for one in found:
        more = [one.fingerprint, one.reason, f"vouched by {', '.join(one.vouched_by)}" if one.vouched_by else ""]
        lines.append(f"  {one.name} {KINDS[one.kind]}{_signed(one)}: {'; '.join(part for part in more if part)}")
    if any(one.fingerprint and one.kind != "own" for one in found):
        lines.append(f"Accept after comparing the words: consortium client roster accept NAME{here}")
    if any(one.entry is None for one in found):
        lines.append(f"Take off this roster who is not offered any more: consortium client roster accept NAME{here}")
    return lines


def _days(entry: RosterEntry) -> str:
    parts = [f"from {entry.valid_from}" if entry.valid_from else "", f"until {entry.valid_until}" if entry.valid_until else ""]
    return "".join(f"  {part}" for part in parts if part)


def _document(membership: Membership, found: Sequence[Difference], vouched: Sequence[Difference]) -> dict[str, object]:
    from protocols.fingerprint import fingerprint

    entries = [
        {
            "name": entry.name,
            "fingerprint": fingerprint(entry.name, entry.public_key),
            "public_key": entry.public_key.hex(),
            "valid_from": entry.valid_from,
            "valid_until": entry.valid_until,
        }
        for entry in membership.roster.entries
    ]
    offered = {"differences": [_of(one) for one in found], "accepted": [_of(one) for one in vouched]}
    return {"schema": 1, "institution": membership.name, "roster": entries, **offered}


def _of(one: Difference) -> dict[str, object]:
    return {
        "name": one.name,
        "change": one.kind,
        "fingerprint": one.fingerprint,
        "signed_by_former_key": one.signed,
        "vouched_by": list(one.vouched_by),
        "reason": one.reason,
    }
