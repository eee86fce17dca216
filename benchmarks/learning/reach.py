"""What was aimed at, beside what was measured: one sentence for each aim and set, whether it was reached or not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator

from benchmarks.learning.rows import Figures
from benchmarks.learning.sets import FULL
from benchmarks.learning.table import SetFigures, share_of_fedavg, share_of_plain_fedavg, standard_error

GAP, BYTES, KEPT_GAIN = 0.95, 0.5, 0.8
EXPERTS = ("esft, lora", "esft, full")
PRIVATE = ("private, epsilon 8", "private, epsilon 32", "private, epsilon 100", "private, distributed, epsilon 8")


def reach(results: Iterable[Figures]) -> str:
    """A Markdown list over the sets with every row; aims whose rows are missing are left out."""
    rows = list(results)
    every = [SetFigures(name, [one for one in rows if one["set"] == name]) for name in FULL]
    return "\n".join(f"- {figures.name}: {sentence}" for figures in every for sentence in _sentences(figures))


def _sentences(figures: SetFigures) -> Iterator[str]:
    gap, rows = figures.gap_closed("default"), figures.of("default")
    share, plain = share_of_fedavg(figures, rows), share_of_plain_fedavg(figures, rows)
    if gap is not None:
        yield f"the default closes {100 * gap:.0f} % of the gap; the aim is 95 % ({_verdict(gap >= GAP)})."
    if share is not None and plain is not None:
        verdict = _verdict(share <= BYTES)
        yield f"the default takes {share:.2f} of the bytes of fedavg with 32 bits an element; the aim is one half ({verdict})."
        yield f"Of fedavg without secure sums, which sends each element once up and once down as fp32, it takes {plain:.2f}."
    yield from (sentence for name in EXPERTS for sentence in _experts(figures, name))
    for name in ("tune-up", "fedsa", "fedsa, tune-up", "own experts"):
        worse = figures.worse_than_alone(name)
        if worse is not None:
            yield f"{name}: {worse[0]} of {worse[1]} institutions do worse on their own records than alone; the aim is none."
    yield from (sentence for name in PRIVATE for sentence in _private(figures, name))


def _experts(figures: SetFigures, name: str) -> Iterator[str]:
    variants = f"experts: {name}", f"lora at the bytes of {name}"
    ours, lora = (_federated(figures, variant) for variant in variants)
    if ours is None or lora is None:
        return
    error = math.hypot(*(_error(figures, variant) for variant in variants))
    gain = figures.sign * (ours - lora)
    verdict = "neither wins" if abs(gain) < 2 * error else "experts win" if gain > 0 else "experts do not win"
    yield f"experts ({name}) reach {ours:.3f}, LoRA alone at equal bytes {lora:.3f}, with an error of {error:.3f}: {verdict}."


def _private(figures: SetFigures, name: str) -> Iterator[str]:
    private, plain = _federated(figures, name), _federated(figures, "default")
    if private is None or plain is None:
        return
    base = float(figures.of("default")[0]["base"])
    kept = (private - base) / (plain - base)
    aim = f"; the aim is 80 % ({_verdict(kept >= KEPT_GAIN)})" if name.endswith("epsilon 8") else ""
    yield f"{name} keeps {100 * kept:.0f} % of the default's gain over the base{aim}."


def _federated(figures: SetFigures, variant: str) -> float | None:
    values = [float(one["federated"]) for one in figures.of(variant)]
    return statistics.fmean(values) if values else None


def _error(figures: SetFigures, variant: str) -> float:
    """Of one seed's test records, because seeds share most of them."""
    return standard_error(figures.metric, _federated(figures, variant) or 0.0, figures.of(variant)[0]["test_records"]) or 0.0


def _verdict(holds: bool) -> str:
    return "reached" if holds else "missed"
