"""The two histograms as a PNG file."""

from __future__ import annotations

from pathlib import Path

from client.rehearsal.histogram import BINS, Histograms


def draw(histograms: Histograms, title: str, path: Path) -> None:
    """Draws counts beside each other; needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [("Masked: what the coordinator sees", histograms.masked, "#1f5fa8")]
    if histograms.update is not None:
        shown.append(("Update: what it does not see", histograms.update, "#c26a1b"))
    figure = Figure(figsize=(4.6 * len(shown), 3.6), layout="constrained")
    middles = [(number + 0.5) / BINS - 0.5 for number in range(BINS)]
    for axes, (label, counts, colour) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        axes.bar(middles, counts, width=0.9 / BINS, color=colour)
        axes.set(title=label, xlabel="lane / modulus", ylabel="lanes", xlim=(-0.5, 0.5))
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    FigureCanvasAgg(figure).print_png(str(path))
