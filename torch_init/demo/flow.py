# SPDX-License-Identifier: Apache-2.0
"""Gradient flow before training: torch_init's own instrument on every network of the comparison.

Signal and gradient of each hidden layer beside what mean-field theory expects of these weights,
and for each network a report that says in a sentence what is wrong with it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from torch_init.flow import Report, check

from .data import Digits
from .figure import LEAST_GRADIENT, STYLE, line_style, note, start_label
from .models import ACTIVATIONS, MLP, STARTS
from .training import probe

Reports = dict[tuple[str, str], Report]


def measure(model: MLP, digits: Digits) -> Report:
    """Return the report on a network, measured on the probe examples."""
    x, y = probe(digits)
    return check(model, x, y, verbose=False)


def write_pages(reports: Reports, folder: Path) -> None:
    """Write each report as a web page."""
    folder.mkdir(exist_ok=True)
    for (activation, start), report in reports.items():
        title = f"{ACTIVATIONS[activation].label}, {STARTS[start].label}"
        report.to_html(folder / f"{activation}-{start}.html", title=title)


def draw(reports: Reports) -> Figure:
    """Draw signal and gradient of the hidden layers, measured and expected."""
    activations = list(dict.fromkeys(activation for activation, _ in reports))
    with matplotlib.rc_context(STYLE):
        figure = Figure(
            figsize=(max(10, 1.2 + 3.6 * len(activations)), 7.0), dpi=110, layout="constrained"
        )
        axes = figure.subplots(2, len(activations), squeeze=False, sharey="row")
        for column, activation in enumerate(activations):
            axes[0, column].set_title(ACTIVATIONS[activation].label, fontweight="bold")
            for (one, start), report in reports.items():
                if one == activation:
                    _draw_start(axes[0, column], axes[1, column], start, report)
            axes[1, column].set_xlabel("hidden layer (input side = 1)")
        axes[0, 0].set_ylabel("pre-activation (rms)")
        axes[1, 0].set_ylabel("its gradient (norm)")
        for ax in axes.flat:
            _scale(ax)
        handles: dict[str, Any] = {}
        for ax in axes.flat:
            lines, labels = ax.get_legend_handles_labels()
            handles.update(zip(labels, lines, strict=True))
        figure.legend(
            list(handles.values()),
            list(handles),
            title="Gradient flow before training: measured (markers) and expected of these weights "
            "(dotted)",
            title_fontsize=13,
            loc="outside upper center",
            ncols=len(handles),
            frameon=False,
        )
    return figure


def _draw_start(signal: Axes, gradient: Axes, start: str, report: Report) -> None:
    rows = report.hidden
    if all(row.rms == 0 for row in rows):
        for ax, height in ((signal, 0.42), (gradient, 0.03)):
            note(ax, height, [f"{start_label(start)}: exactly 0 in every layer"])
    else:
        _draw_line(signal, start, [(row.rms, row.expected_rms) for row in rows])
        sizes = [(row.gradient_norm, row.expected_gradient_norm) for row in rows]
        _draw_line(gradient, start, sizes)


def _draw_line(ax: Axes, start: str, pairs: list[tuple[float, float | None]]) -> None:
    places = range(1, len(pairs) + 1)
    measured = [_on_log_axis(one) for one, _ in pairs]
    expected = [_on_log_axis(other) for _, other in pairs]
    ax.plot(places, measured, **line_style(start))
    ax.plot(places, expected, color="#333333", linewidth=1, linestyle=":", zorder=5)


def _on_log_axis(value: float | None) -> float:
    """A logarithmic axis has no place for 0, and what is near underflow would flatten the rest."""
    return math.nan if value is None or not LEAST_GRADIENT < value < math.inf else value


def _scale(ax: Axes) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(numticks=7))
    ax.yaxis.minorticks_off()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
