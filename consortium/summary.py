"""The end of a simulation for people: a table of what was compared."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from consortium.privacy import privacy_line
from consortium.report import Report


def print_summary(report: Report, console: Console) -> None:
    """Base, each hospital alone, federated and pooled; then where the model is."""
    better = "higher is better" if report["higher_is_better"] else "lower is better"
    table = Table(title=f"{report['plan']['name']}: {report['metric']} on {report['test_records']} test records ({better})")
    table.add_column("trained on")
    table.add_column("all test records", justify="right")
    table.add_column("own test records", justify="right")
    for name, union, own in _rows(report):
        table.add_row(name, _figure(union), _figure(own))
    console.print(table)
    console.print(_records_line(report), highlight=False, soft_wrap=True)
    if report["personalised"]:
        console.print(_personal_line(report), highlight=False, soft_wrap=True)
    console.print(privacy_line(report.document.get("privacy")), highlight=False, soft_wrap=True, markup=False)
    if report["model"]:
        console.print(f"Released model: {report['model']}", highlight=False, soft_wrap=True)
    else:
        console.print("No model was released: the plan's [release] table asks for more than was reached.", markup=False)


def _rows(report: Report) -> list[tuple[str, float | None, float | None]]:
    local = report["local_only"]
    rows: list[tuple[str, float | None, float | None]] = [("nothing (the base)", report["base"], None)]
    if local:
        rows += [(f"{name} alone", figures["union"], figures["own"]) for name, figures in local["institutions"].items()]
        rows.append(("mean of those alone", local["mean"], None))
    own, personal = report["federated_own"].values(), report["personalised"]
    together = "all, federated, each with its own factors" if personal and personal["in_federated"] else "all, federated"
    rows.append((together, report["federated"], sum(own) / len(own)))
    if personal:
        rows.append(("all, each with its own model", None, personal["mean"]))
    if report["pooled"] is not None:
        rows.append(("all, pooled (not private)", report["pooled"], None))
    return rows


def _records_line(report: Report) -> str:
    parts = (f"{name} {counts['train']} + {counts['test']}{_too_long(counts)}" for name, counts in report["records"].items())
    return f"Records for training + test: {', '.join(parts)}"


def _personal_line(report: Report) -> str:
    """Own models by institution, beside what each reaches alone."""
    alone = report["local_only"]["institutions"] if report["local_only"] else {}
    parts = [f"{name} {value:.3f}{_alone(alone, name)}" for name, value in report["personalised"]["institutions"].items()]
    return f"Own models on own test records: {', '.join(parts)}"


def _alone(alone: Mapping[str, Mapping[str, float]], name: str) -> str:
    return f" (alone {alone[name]['own']:.3f})" if name in alone else ""


def _too_long(counts: Mapping[str, int]) -> str:
    found = [f"{counts[what]} {what}" for what in ("truncated", "dropped") if counts[what]]
    return f" ({', '.join(found)})" if found else ""


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
