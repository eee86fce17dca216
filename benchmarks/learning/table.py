"""The tables of the documentation, made of the committed figures alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.learning.rows import Figures
from benchmarks.learning.variants import BASELINES, VARIANTS

SMALLEST_GAP = 0.10  # between pooled and local-only, for a share of it to mean anything
BEGIN, END = "<!-- learning tables: begin -->", "<!-- learning tables: end -->"
_HEAD = (
    "variant", "{metric}", "spread", "error", "gap closed", "own records", "worse than alone",
    "MB up", "MB down", "of fedavg", "steps", "s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SetFigures:
    """All rows of a data set."""

    name: str
    rows: Sequence[Figures]

    @property
    def metric(self) -> str:
        return next((str(one["metric"]) for one in self.rows if "metric" in one), "accuracy")

    @property
    def sign(self) -> int:
        """1 where a higher metric is better, -1 where a lower one is."""
        return -1 if self.metric == "bits_per_byte" else 1

    def of(self, variant: str) -> list[Figures]:
        return sorted((one for one in self.rows if one["variant"] == variant), key=lambda one: int(one["seed"]))

    def baselines(self, seeds: Iterable[int]) -> list[Figures]:
        wanted = set(seeds)
        return [one for one in self.of(BASELINES) if one["seed"] in wanted]

    def gap_closed(self, variant: str) -> float | None:
        """Share of the way from local-only mean to pooled, over seeds that have all three; None where the way is too short to say."""
        measured = {int(one["seed"]): float(one["federated"]) for one in self.of(variant)}
        compared = self.baselines(measured)
        if not compared:
            return None
        alone = _mean(_mean(one["union"].values()) for one in compared)
        way = self.sign * (_mean(one["pooled"] for one in compared) - alone)
        if way < SMALLEST_GAP:
            return None
        return self.sign * (_mean(measured[one["seed"]] for one in compared) - alone) / way

    def worse_than_alone(self, variant: str) -> tuple[int, int] | None:
        """Institutions, over seeds, whose final model does worse on their own test records than what they train alone; and of how many."""
        pairs = [
            (self.sign * float(value), self.sign * float(alone["own"][name]))
            for one in self.of(variant)
            for alone in self.baselines([one["seed"]])
            for name, value in own(one).items()
        ]
        return (sum(value < alone for value, alone in pairs), len(pairs)) if pairs else None


def own(row: Figures) -> Mapping[str, float]:
    """Each institution's final model on its own test records: tuned to it where the plan does so."""
    found: Mapping[str, float] = row.get("personalised") or row["own"]
    return found


def tables(results: Iterable[Figures]) -> str:
    """Markdown: a table for each set, every row of it, the ones where a baseline wins too."""
    rows = list(results)
    names = list(dict.fromkeys(str(one["set"]) for one in rows))
    return "\n\n".join("\n".join(_table(SetFigures(name, [one for one in rows if one["set"] == name]))) for name in names)


def put_tables(page: Path, text: str) -> None:
    """Replaces what stands between the page's markers.

    Raises:
        ValueError: the page lacks one of them.
    """
    content = page.read_text(encoding="utf-8")
    if BEGIN not in content or END not in content:
        raise ValueError(f"{page} lacks the lines {BEGIN} and {END}; put them where the tables belong")
    before, after = content.split(BEGIN)[0], content.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def standard_error(metric: str, value: float, records: int) -> float | None:
    """Of a share p of n test records, sqrt(p (1 - p) / n); None for a metric that is no share."""
    return None if metric == "bits_per_byte" else math.sqrt(value * (1 - value) / records)


def _table(figures: SetFigures) -> Iterator[str]:
    measured = [one for one in figures.rows if "test_records" in one]
    records = measured[0]["test_records"] if measured else 0
    yield f"### {figures.name}"
    yield f"{records} test records; {'lower' if figures.sign < 0 else 'higher'} is better."
    yield ""
    yield _line(cell.format(metric=figures.metric.replace("_", " ")) for cell in _HEAD)
    yield _line("---" if place == 0 else "--:" for place in range(len(_HEAD)))
    yield from _reference_lines(figures, records)
    for one in VARIANTS:
        if figures.of(one.name):
            yield _variant_line(figures, one.name)


def _reference_lines(figures: SetFigures, records: int) -> Iterator[str]:
    alone = figures.of(BASELINES)
    bases = [float(one["base"]) for one in figures.rows if "base" in one]
    best = max if figures.sign > 0 else min
    known = [("the base", bases[:1])]
    known += [
        ("alone, mean", [_mean(one["union"].values()) for one in alone]),
        ("alone, best", [best(one["union"].values()) for one in alone]),
        ("pooled", [float(one["pooled"]) for one in alone]),
    ]
    for name, values in known:
        if values:
            shown = [_number(_mean(values)), _spread(values), _error(figures.metric, _mean(values), records)]
            yield _line([f"*{name}*", *shown, *[""] * (len(_HEAD) - 4)])


def _variant_line(figures: SetFigures, variant: str) -> str:
    rows = figures.of(variant)
    values = [float(one["federated"]) for one in rows]
    gap, worse = figures.gap_closed(variant), figures.worse_than_alone(variant)
    return _line(
        [
            variant,
            _number(_mean(values)),
            _spread(values),
            _error(figures.metric, _mean(values), rows[0]["test_records"]),
            "" if gap is None else f"{100 * gap:.0f} %",
            _number(_mean(_mean(own(one).values()) for one in rows)),
            "" if worse is None else f"{worse[0]} of {worse[1]}",
            f"{_mean(one['bytes_up'] for one in rows) / 1e6:.1f}",
            f"{_mean(one['bytes_down'] for one in rows) / 1e6:.1f}",
            _share_of_fedavg(figures, rows),
            str(rows[0]["steps"]),
            f"{rows[-1]['seconds']:.0f}",
        ]
    )


def share_of_fedavg(figures: SetFigures, rows: Sequence[Figures]) -> float | None:
    """Bytes up and down over those of fedavg with 32 bits an element, which is as long as fp32."""
    whole = [one["bytes_up"] + one["bytes_down"] for one in figures.of("fedavg")]
    return _mean(one["bytes_up"] + one["bytes_down"] for one in rows) / _mean(whole) if whole and rows else None


def share_of_plain_fedavg(figures: SetFigures, rows: Sequence[Figures]) -> float | None:
    """Bytes up and down over those of fedavg without secure sums: every element of the adapter as fp32, up and down in each round."""
    whole = [2 * 4 * one["elements_up"] * len(one["own"]) for one in figures.of("fedavg")]
    return _mean(one["bytes_up"] + one["bytes_down"] for one in rows) / _mean(whole) if whole and rows else None


def _share_of_fedavg(figures: SetFigures, rows: Sequence[Figures]) -> str:
    share = share_of_fedavg(figures, rows)
    return "" if share is None else f"{share:.2f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _spread(values: Sequence[float]) -> str:
    """Standard deviation over seeds."""
    return _number(statistics.stdev(values)) if len(values) > 1 else ""


def _error(metric: str, value: float, records: int) -> str:
    error = standard_error(metric, value, records) if records else None
    return "" if error is None else _number(error)


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)
