"""Time and memory of a sweep over the number of connections, drawn as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["draw"]


def draw(connections: Sequence[int], seconds: Sequence[float], megabytes: Sequence[float], file: Path) -> None:
    """Two panels side by side, with numbers at their points. The same numbers give the same bytes."""
    mpl.rcParams.update({"svg.hashsalt": "sweep", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _panel(left, connections, seconds, "seconds", "{:.1f} s")
    _panel(right, connections, megabytes, "peak memory, MB", "{:.0f} MB")
    figure.savefig(file, metadata={"Date": None})


def _panel(axes: Axes, connections: Sequence[int], values: Sequence[float], label: str, form: str) -> None:
    axes.plot(connections, values, marker="o", color="#1f5fa8")
    axes.set(xlabel="connections, none due", ylabel=label, xlim=(0, None), ylim=(0, max(values) * 1.2))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(color="0.9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    for x, y in list(zip(connections, values, strict=True))[-3:]:
        axes.annotate(form.format(y), (x, y), xytext=(0, 7), textcoords="offset points", ha="right")
