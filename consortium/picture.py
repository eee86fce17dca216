"""The metric per round against the base, institutions alone and pooled records, as a PNG file."""

from __future__ import annotations

from pathlib import Path

from consortium.report import Report


def draw(report: Report, path: Path) -> None:
    """Draws a report; needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    measured = [(0, report["base"])] + [(one["round"], one["metric"]) for one in report["rounds"] if one["metric"] is not None]
    axes.plot(*zip(*measured, strict=True), marker="o", color="#1f5fa8", linewidth=2.2, label="federated", zorder=3)
    if report["personalised"]:
        mean = report["personalised"]["mean"]
        axes.plot([measured[-1][0]], [mean], marker="*", markersize=13, color="#7a3fa0", linestyle="", label=f"own models ({mean:.3f})")
    for label, value, color in _lines(report):
        axes.axhline(value, color=color, linestyle="--", linewidth=1.4, label=f"{label} ({value:.3f})")
    axes.set(xlabel="round", ylabel=report["metric"].replace("_", " "), title=report["plan"]["name"])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    FigureCanvasAgg(figure).print_png(str(path))


def _lines(report: Report) -> list[tuple[str, float, str]]:
    lines = [("base", report["base"], "#8a8a8a")]
    if report["local_only"]:
        lines.append(("mean of institutions alone", report["local_only"]["mean"], "#c26a1b"))
    if report["pooled"] is not None:
        lines.append(("pooled", report["pooled"], "#3b8f4a"))
    return lines
