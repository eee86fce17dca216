"""What a Prometheus would read at a port of this machine."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, ...], float]


def scraped(port: int) -> Samples:
    """Values by name and labels' values, in the order of the labels' names."""
    samples = [sample for family in text_string_to_metric_families(page(port)) for sample in family.samples]
    return {(one.name.removeprefix("consortium_"), *one.labels.values()): one.value for one in samples}


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text
