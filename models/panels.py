"""Accuracy against time-steps, spikes, energy and latency, drawn: four panels for every command that has such figures.

Shared with the service. Needs matplotlib, of the extra ``train``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_MARKERS = "os^Dv"
# Above and below its points, in turn, a line's names are less in the way of the next one's.
_NAMES_AT = ((5, 6), (5, -12))


@dataclass(frozen=True)
class Point:
    """One budget: accuracy and its standard error as shares; spikes and energy of an image, latency of a request.

    ``energy_nj`` is None where the profile does not apply: that panel goes without the point.
    """

    name: str
    timesteps: float
    accuracy: float
    error: float
    spikes: float
    energy_nj: float | None
    latency_ms: float


@dataclass(frozen=True)
class Line:
    """The budgets of one model, in the order in which they are joined."""

    name: str
    points: Sequence[Point]


def draw(lines: Sequence[Line], output: Path, *, energy: str, latency: str, title: str = "") -> None:
    """Write the panels to ``output``, in the format of its suffix.

    ``energy`` and ``latency`` say below their axes what those are of. Raises OSError and, for a format that there is
    not, ValueError.
    """
    figure = Figure(figsize=(14, 3.9 if title else 3.6), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, 4, sharey=True)
    for index, line in enumerate(lines):
        for axis, attribute in zip(axes, ("timesteps", "spikes", "energy_nj", "latency_ms"), strict=True):
            _panel(axis, line, attribute, index)
    # What chose among budgets stands between their ticks.
    steps = sorted({point.timesteps for line in lines for point in line.points if point.timesteps % 1 == 0})
    _label(axes[0], "time-steps T")
    axes[0].set_ylabel("accuracy, % (± 1 standard error)")
    axes[0].set_xscale("log", base=2)
    axes[0].set_xticks(steps, [f"{value:g}" for value in steps])
    axes[1].legend(loc="best")
    _label(axes[1], "spikes an image")
    _label(axes[2], f"energy of an image, nJ\n({energy})")
    _label(axes[3], latency)
    if title:
        figure.suptitle(title, fontsize=10)
    with mpl.rc_context({"svg.fonttype": "none"}):  # text stays text
        figure.savefig(output, dpi=150)


def _panel(axis: Axes, line: Line, attribute: str, index: int) -> None:
    marker, names_at = _MARKERS[index % len(_MARKERS)], _NAMES_AT[index % len(_NAMES_AT)]
    points = [point for point in line.points if getattr(point, attribute) is not None]
    values = [getattr(point, attribute) for point in points]
    percent = [100 * point.accuracy for point in points]
    axis.errorbar(
        values, percent, [100 * point.error for point in points], marker=marker, capsize=3, label=line.name, alpha=0.85
    )
    for point, value, y in zip(points, values, percent, strict=True):
        axis.annotate(point.name, (value, y), textcoords="offset points", xytext=names_at, fontsize=8)


def _label(axis: Axes, text: str) -> None:
    axis.set_xlabel(text)
    axis.margins(x=0.14)  # for the labels beside the points
    axis.grid(alpha=0.3)
