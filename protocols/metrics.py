"""Figures for Prometheus, on the loopback address alone and of this process alone; no label and no value comes from a record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from protocols.errors import ConsortiumError

Key = TypeVar("Key", bound=tuple[str, ...])
__all__ = ["Collector", "Metric", "MetricsUnserved", "counter", "gauge", "serve_metrics", "summary"]


class MetricsUnserved(ConsortiumError):
    """The port for figures cannot be listened on."""


@contextmanager
def serve_metrics(port: int, *collectors: Collector) -> Iterator[None]:
    """Answers `http://127.0.0.1:port/metrics` from threads of its own, which ask the collectors each time; nothing at all with port 0.

    Raises:
        MetricsUnserved: the port is taken.
    """
    if not port:
        yield
        return
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise MetricsUnserved(f"figures cannot be served on port {port} ({error.strerror}); free it, or change metrics_port") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def gauge(name: str, text: str, values: Mapping[Key, float], *labels: str) -> Metric:
    """What goes up and down; `values` by the labels' values, which are () where there are no labels."""
    return _filled(GaugeMetricFamily(f"consortium_{name}", text, labels=labels), values)


def counter(name: str, text: str, values: Mapping[Key, float], *labels: str) -> Metric:
    """What only grows, until its process begins anew."""
    return _filled(CounterMetricFamily(f"consortium_{name}", text, labels=labels), values)


def summary(name: str, text: str, values: Mapping[Key, tuple[int, float]], *labels: str) -> Metric:
    """How often, and how much together."""
    family = SummaryMetricFamily(f"consortium_{name}", text, labels=labels)
    for key, (count, total) in values.items():
        family.add_metric(key, count, total)
    return family


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[Key, float]) -> Metric:
    for key, value in values.items():
        family.add_metric(key, value)
    return family
