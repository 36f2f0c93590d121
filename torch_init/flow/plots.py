# SPDX-License-Identifier: Apache-2.0
"""The report as figures, with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch_init.errors import check_choice, describe
from torch_init.flow.totals import LOWEST_EXPONENT

if TYPE_CHECKING:
    from torch_init.flow.report import Report

PLOTS = ("gradflow", "signal", "ratio", "hist")
_MEASURED, _EXPECTED = "#0072B2", "#D55E00"


def draw(report: Report, kind: str, ax: Any) -> Any:
    """Draw one kind of plot and return its Axes."""
    check_choice("Report.plot", "kind", kind, PLOTS)
    if ax is None:
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "torch_init: Report.plot needs matplotlib: pip install 'torch_init[demo]'"
            ) from error
        # Not pyplot's: that would keep the figure alive and pick a backend.
        ax = Figure(figsize=(8, 4.5), layout="constrained").add_subplot()
    if kind == "ratio":
        return _draw_ratios(report, ax)
    if kind == "hist":
        return _draw_histograms(report, ax)
    is_gradient = kind == "gradflow"
    rows = [row for row in report.weighted if row.backward_calls or not is_gradient]
    names = [row.layer for row in rows]
    measured = [row.gradient_norm if is_gradient else row.rms for row in rows]
    expected = [row.expected_gradient_norm if is_gradient else row.expected_rms for row in rows]
    ax.plot(range(len(rows)), _positive(measured), "o-", color=_MEASURED, label="measured")
    if any(value is not None for value in expected):
        ax.plot(range(len(rows)), _positive(expected), "--", color=_EXPECTED, label="expected")
        factors = [(r.gradient_tolerance if is_gradient else r.tolerance) or 1.0 for r in rows]
        _shade(ax, factors, expected)
    ax.set_yscale("log")
    ax.set_ylabel("gradient norm" if is_gradient else "signal (root mean square)")
    ax.set_title(str(report.verdict).split(". ")[0][:110], fontsize=9, loc="left")
    ax.legend(frameon=False)
    return _name_layers(ax, names)


def _positive(values: Sequence[float | None]) -> list[float]:
    """A logarithmic axis has no place for 0."""
    return [math.nan if value is None or not value > 0 else value for value in values]


def _shade(ax: Any, spread: Sequence[float], expected: Sequence[float | None]) -> None:
    middle = _positive(expected)
    low = [value / factor for value, factor in zip(middle, spread, strict=True)]
    high = [value * factor for value, factor in zip(middle, spread, strict=True)]
    ax.fill_between(range(len(spread)), low, high, color=_EXPECTED, alpha=0.15, linewidth=0)


def _name_layers(ax: Any, names: Sequence[str]) -> Any:
    step = max(1, math.ceil(len(names) / 24))
    ax.set_xticks(range(0, len(names), step), names[::step], rotation=90, fontsize=7)
    ax.set_xlabel("layer, from the input to the output")
    return ax


def _draw_ratios(report: Report, ax: Any) -> Any:
    moved = [p for p in report.parameters if p.update_ratio > 0 and len(p.shape) >= 2]
    if not moved:
        raise ValueError(
            describe(
                "Report.plot", "kind", "'ratio'", "measured steps", "Give watch() the optimizer"
            )
        )
    ax.plot(range(len(moved)), [p.update_ratio for p in moved], "o-", color=_MEASURED)
    ax.axhspan(1e-4, 1e-2, color="#999999", alpha=0.15, linewidth=0)
    ax.set_yscale("log")
    ax.set_ylabel("update / weight")
    return _name_layers(ax, [p.name for p in moved])


def _draw_histograms(report: Report, ax: Any) -> Any:
    rows = [r for r in report.weighted if r.gradient_histogram and sum(r.gradient_histogram)]
    if not rows:
        fix = "Use watch(histogram=True)"
        raise ValueError(describe("Report.plot", "kind", "'hist'", "measured histograms", fix))
    import numpy as np

    counts = np.array([row.gradient_histogram for row in rows], dtype=float)
    counts /= counts.sum(1, keepdims=True)
    seen = np.flatnonzero(counts.any(0))
    low, high = seen[0], seen[-1] + 1
    bounds = (-0.5, len(rows) - 0.5, LOWEST_EXPONENT + low, LOWEST_EXPONENT + high)
    image = counts[:, low:high].T
    ax.imshow(image, origin="lower", aspect="auto", extent=bounds, cmap="Blues")
    ax.set_ylabel("log2 |gradient|")
    return _name_layers(ax, [row.layer for row in rows])
