"""The records: whether all of them can be read as a plan asks, how many there are, and which are too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from client.checks.finding import Finding, ok
from client.database import shown_source
from client.dataset import Datasets
from client.settings import RecordSettings
from client.sources import Row
from protocols.plan import Plan

NAME = "records"
_SPLIT = "split"  # what records that were divided before call the column that says how


def check_rows(settings: RecordSettings, rows: Sequence[Row]) -> Finding:
    """How many rows there are, which is what can be said without a plan."""
    return ok(NAME, f"{shown_source(settings.source)} holds {len(rows)} records; with --plan their fields are tested too")


def check_division(settings: RecordSettings, rows: Sequence[Row]) -> Iterator[Finding]:
    """A warning where rows say on which side they are and the settings do not listen: test records would be trained on."""
    if settings.split or not any(_SPLIT in row.values for row in rows):
        return
    sentence = f"{shown_source(settings.source)} has a column {_SPLIT} that institution.toml does not name, so records are divided by hash"
    remedy = f'if it says what is test, put {_SPLIT} = "{_SPLIT}" in place of test_fraction, lest test records be trained on'
    yield Finding(NAME, "warning", sentence, remedy)


def check_datasets(datasets: Datasets, plan: Plan) -> Finding:
    """How many records there are on each side, and what became of those that are too long."""
    train, test = datasets.train, datasets.test
    counts = f"{len(train.examples)} training and {len(test.examples)} test records"
    cut, left_out = train.truncated + test.truncated, train.dropped + test.dropped
    if not cut + left_out:
        return ok(NAME, f"{counts}, none longer than {plan.records.max_tokens} tokens")
    sentence = f"{counts}; of those longer than {plan.records.max_tokens} tokens {cut} are cut and {left_out} left out"
    return Finding(NAME, "warning", sentence, "ask the operator for a larger records.max_tokens if what is cut matters")
