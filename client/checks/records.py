"""The records: whether all of them can be read as a plan asks, how many there are, and which are too long."""

from __future__ import annotations

from client.checks.finding import Finding, ok
from client.database import read_query, shown_source
from client.dataset import Datasets
from client.settings import RecordSettings
from client.sources import read_rows
from protocols.plan import Plan

NAME = "records"


def check_rows(settings: RecordSettings) -> Finding:
    """Whether the source can be read at all, which is what can be said without a plan.

    Raises:
        RecordError: it cannot.
    """
    rows = read_query(settings.source, settings.query) if settings.query else read_rows(settings.source)
    return ok(NAME, f"{shown_source(settings.source)} holds {len(rows)} records; with --plan their fields are tested too")


def check_datasets(datasets: Datasets, plan: Plan) -> Finding:
    """How many records there are on each side, and what became of those that are too long."""
    train, test = datasets.train, datasets.test
    counts = f"{len(train.examples)} training and {len(test.examples)} test records"
    cut, left_out = train.truncated + test.truncated, train.dropped + test.dropped
    if not cut + left_out:
        return ok(NAME, f"{counts}, none longer than {plan.records.max_tokens} tokens")
    sentence = f"{counts}; of those longer than {plan.records.max_tokens} tokens {cut} are cut and {left_out} left out"
    return Finding(NAME, "warning", sentence, "ask the operator for a larger records.max_tokens if what is cut matters")
