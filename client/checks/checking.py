"""All checks in the order in which a person mends what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from client.checks.connection import connection_findings
from client.checks.finding import Finding, checked, ok
from client.checks.folder import folder_findings
from client.checks.plan import plan_findings
from client.checks.records import check_datasets, check_division, check_rows
from client.checks.roster import check_roster, offered
from client.database import shown_source
from client.dataset import Datasets, Example, build_datasets
from client.given_plan import read_given_plan
from client.institution import read_membership
from client.records import divide_records, read_source
from client.settings import InstitutionSettings, load_settings
from client.sources import Row
from client.spending import policy_of
from model.text.tokenizer import Tokenizer, load_tokenizer
from protocols.plan import Plan
from protocols.policy import Policy

Show = Callable[[Sequence[Example], Tokenizer], None]


def check_institution(folder: Path, plan_file: Path | None, clock: Callable[[], datetime], show: Show | None) -> Iterator[Finding]:
    """Every finding as soon as it is made; `show` is given the records as the model will see them, which are part of no finding.

    Raises:
        ConsortiumError: plan, settings or policy cannot be read, without which nothing can be tested.
    """
    plan = read_given_plan(plan_file) if plan_file else None
    settings, policy = load_settings(folder / "institution.toml"), policy_of(folder)
    yield from folder_findings(folder, clock)
    yield from connection_findings(folder, clock)
    offer = offered(folder, clock)
    yield checked("roster", lambda: read_membership(folder), lambda membership: check_roster(membership, plan, offer))
    if plan is None:
        yield from _without_plan(settings)
    else:
        yield from _with_plan(plan, settings, policy, show)


def _without_plan(settings: InstitutionSettings) -> Iterator[Finding]:
    rows: list[Row] = []

    def counted(found: list[Row]) -> Finding:
        rows.extend(found)
        return check_rows(settings.records, found)

    yield checked("records", lambda: read_source(settings.records), counted)
    yield from check_division(settings.records, rows)
    yield Finding("plan", "skipped", "base, memory, disk, policy and bytes per round are tested with --plan PLAN")


def _with_plan(plan: Plan, settings: InstitutionSettings, policy: Policy, show: Show | None) -> Iterator[Finding]:
    yield ok("plan", f"{plan.name} is a plan of this version")
    yield from plan_findings(plan, settings, policy)
    read: list[tuple[Datasets, Tokenizer, list[Row]]] = []

    def parsed(found: tuple[Datasets, Tokenizer, list[Row]]) -> Finding:
        read.append(found)
        return check_datasets(found[0], plan)

    yield checked("records", lambda: _datasets(plan, settings), parsed)
    for datasets, tokenizer, rows in read:
        yield from check_division(settings.records, rows)
        if show is not None:
            show(datasets.train.examples, tokenizer)


def _datasets(plan: Plan, settings: InstitutionSettings) -> tuple[Datasets, Tokenizer, list[Row]]:
    rows = read_source(settings.records)
    records = divide_records(rows, settings.records, plan)
    tokenizer = load_tokenizer(settings.base_directory(plan.base.name))
    return build_datasets(records, plan.records, tokenizer, shown_source(settings.records.source)), tokenizer, rows
