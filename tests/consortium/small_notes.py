"""A plan so small that a simulated round takes a moment, over the demonstration's notes; and some of them as a spreadsheet."""

from __future__ import annotations

import csv
import json
from itertools import islice
from pathlib import Path

from consortium.demo.records import demo_records
from tests.consortium.small_plan import PLAN, TEMPLATES

NOTES = PLAN.format(rounds=2, records=TEMPLATES, evaluation="max_records = 4") + "max_records = 8\n"


def write_plan(folder: Path, *changes: tuple[str, str]) -> Path:
    """The plan and its records; each change is a text of the plan and what stands there instead."""
    plan = NOTES
    for old, new in changes:
        if old not in plan:
            raise ValueError(f"the small plan has no {old!r}")
        plan = plan.replace(old, new)
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in demo_records(0)))
    (folder / "plan.toml").write_text(plan)
    return folder / "plan.toml"


def write_csv(path: Path, count: int = 60) -> None:
    """A spreadsheet as a user has it: some notes of every hospital, without a column that divides them."""
    records = list(demo_records(0))
    sites = {record["site"] for record in records}
    rows = [record for site in sorted(sites) for record in islice((r for r in records if r["site"] == site), count // len(sites))]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["site", "note", "code"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
