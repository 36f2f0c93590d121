# SPDX-License-Identifier: Apache-2.0
"""The figure: training curves, and every layer's gradient before and after training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from .claims import Comparison
from .models import ACTIVATIONS, STARTS
from .training import Point, Run

# Okabe and Ito's palette, told apart by readers with any colour vision; the markers tell the same
# in grey.
_COLOURS = ("#000000", "#D55E00", "#E69F00", "#56B4E9", "#0072B2", "#009E73", "#CC79A7", "#999999")
_MARKERS = ("x", "^", "v", "o", "D", "s", "P", "*")
# Gradients below this, near float32's underflow in a few more layers, leave the axes: they would
# flatten all other curves.
LEAST_GRADIENT = 1e-20
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}


def draw(comparison: Comparison) -> Figure:
    """Draw the comparison; matplotlib's backend and global settings are left as they are."""
    activations = list(dict.fromkeys(run.activation for run in comparison.runs))
    with matplotlib.rc_context(STYLE):
        # At least as wide as the headline.
        figure = Figure(
            figsize=(max(10, 1.2 + 3.6 * len(activations)), 9.2), dpi=110, layout="constrained"
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots(3, len(activations), squeeze=False)
        for column, activation in enumerate(activations):
            runs = [run for run in comparison.runs if run.activation == activation]
            axes[0, column].set_title(ACTIVATIONS[activation].label, fontweight="bold")
            _draw_losses(axes[0, column], runs, comparison)
            _draw_gradients(axes[1, column], runs, lambda run: run.first)
            _draw_gradients(axes[2, column], runs, lambda run: run.last)
            _share_limits(axes[1:, column])
        axes[0, 0].set_ylabel("training loss (nats)")
        axes[1, 0].set_ylabel("pre-activation gradient (rms)\nbefore training")
        axes[2, 0].set_ylabel("pre-activation gradient (rms)\nafter training")
        handles: dict[str, Any] = {}
        for ax in axes.flat:
            lines, labels = ax.get_legend_handles_labels()
            handles.update(zip(labels, lines, strict=True))
        order = [label for label in map(start_label, STARTS) if label in handles]
        figure.legend(
            [handles[label] for label in order],
            order,
            title=f"{comparison.depth} hidden layers of {comparison.width} units on handwritten "
            "digits: the same training from different starting points",
            title_fontsize=13,
            loc="outside upper center",
            ncols=len(order),
            frameon=False,
            fontsize=11,
        )
    return figure


def to_image(figure: Figure) -> np.ndarray:
    """The rendered figure as uint8 (height, width, 4)."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def start_label(start: str) -> str:
    return STARTS[start].label.replace("^2", "²")


def line_style(start: str) -> dict[str, Any]:
    index = list(STARTS).index(start) % len(_COLOURS)
    return {"color": _COLOURS[index], "marker": _MARKERS[index], "label": start_label(start)}


def _draw_losses(ax: Axes, runs: list[Run], comparison: Comparison) -> None:
    guess = math.log(comparison.classes)
    top = 1.5 * guess
    for index, run in enumerate(runs):
        updates = [point.update for point in run.points]
        losses = [point.train_loss for point in run.points]
        # Markers at different updates keep curves apart that lie on each other.
        ax.plot(updates, losses, markevery=(index, len(runs)), **line_style(run.start))
    outside = [run for run in runs if not any(point.train_loss < top for point in run.points)]
    note(
        ax,
        0.5,
        [start_label(r.start) + ": off scale" + ", diverged" * (not r.last) for r in outside],
    )
    ax.axhline(guess, color="#777777", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ax.annotate(
        f"ln {comparison.classes}",
        (1, guess),
        xycoords=("axes fraction", "data"),
        xytext=(-2, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        color="#555555",
    )
    ax.set_ylim(-0.03 * guess, top)
    ax.set_xlabel("updates")


def _draw_gradients(ax: Axes, runs: list[Run], point_of: Callable[[Run], Point | None]) -> None:
    absent = []
    for run in runs:
        point = point_of(run)
        if point is None:
            absent.append(f"{start_label(run.start)}: diverged")
        elif max(point.gradient_rms) == 0:
            absent.append(f"{start_label(run.start)}: exactly 0 in every layer")
        else:
            # A logarithmic axis has no place for the zeros that single layers may have.
            rms = [value if value > 0 else math.nan for value in point.gradient_rms]
            ax.plot(range(1, len(rms) + 1), rms, **line_style(run.start))
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(numticks=7))
    ax.yaxis.minorticks_off()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("hidden layer (input side = 1)")
    note(ax, 0.03, absent)


def note(ax: Axes, height: float, lines: list[str]) -> None:
    """Say at the right, from ``height`` (in axes) upwards, what the axes cannot show."""
    ax.text(
        0.98,
        height,
        "\n".join(lines),
        transform=ax.transAxes,
        ha="right",
        va="bottom",
        fontsize=9,
        color="#333333",
    )


def _share_limits(axes: np.ndarray) -> None:
    low = max(LEAST_GRADIENT, min(ax.get_ylim()[0] for ax in axes))
    high = max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)
