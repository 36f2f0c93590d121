# SPDX-License-Identifier: Apache-2.0
"""The report as text, for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_init.flow.report import Report
    from torch_init.flow.rows import Row
    from torch_init.flow.verdicts import Verdict

MARKS = {"error": "✗", "warning": "!", "info": "i", "ok": "✓"}
_MOST_ROWS = 60
_MOST_ROWS_IN_SIGHT = 16
"""More of them, and a terminal of 24 lines has scrolled the verdict away."""
_WIDTH = 100
_COLUMNS = (
    "layer", "type", "rms", "expected", "gradient", "expected", "zeros", "dead", "sat.",
    "batch std",
)  # fmt: skip


def number(value: float | None, digits: int = 3) -> str:
    """Three digits, without an exponent where that is shorter to read; "-" for nothing."""
    if value is None or math.isnan(value):
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}"
    return f"{value:.{digits - 2}e}"


def share(value: float | None) -> str:
    """A share in percent; "-" for nothing."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.0f}%"


def cells(row: Row) -> list[str]:
    """A row of the table, as in _COLUMNS."""
    return [
        row.layer,
        row.type if not row.nonlinearity else f"{row.type} > {row.nonlinearity}",
        number(row.rms),
        number(row.expected_rms),
        number(row.gradient_norm),
        number(row.expected_gradient_norm),
        share(row.zeros),
        share(row.dead),
        share(row.saturated),
        number(row.batch_std),
    ]


def format_report(report: Report) -> str:
    """Return verdicts, slopes and one line for each row; after many, the first verdict again."""
    lines = [line for verdict in report.verdicts for line in _wrapped(verdict)]
    lines += _slopes(report)
    if report.rows:
        lines += ["", *_table(report.rows)]
    lines += notes(report)
    if len(report.rows) > _MOST_ROWS_IN_SIGHT:
        lines += ["", *_wrapped(report.verdict)]
    return "\n".join(lines)


def _wrapped(verdict: Verdict) -> list[str]:
    text = f"{MARKS[verdict.severity]} {verdict}"
    return textwrap.wrap(text, _WIDTH, subsequent_indent="  ")


def _slopes(report: Report) -> list[str]:
    return [
        f"{name}: {slope.per_layer:+.3f} log10 per layer (x{slope.factor:.4g}), "
        f"x{slope.total:.3g} over {slope.layers} layers, fit error {slope.fit_error:.2f}"
        for name, slope in (("gradient", report.slope), ("signal", report.signal_slope))
        if slope is not None
    ]


def notes(report: Report) -> list[str]:
    """What the reader must know of the measurement itself."""
    lines = []
    if report.prediction_problem:
        lines.append(f"No prediction: {report.prediction_problem}")
    for layer, reason in report.unsupported.items():
        lines.append(f"Not measured: {layer} ({reason})")
    if report.passes_left_out:
        lines.append(
            f"Not measured: {report.passes_left_out} forward passes that other threads began "
            f"during one of the {report.passes} measured"
        )
    if report.uncalled:
        lines.append("Never called: " + ", ".join(report.uncalled))
    for row in report.rows:
        if row.calls < report.passes:
            lines.append(f"Seen in {row.calls} of {report.passes} forward passes: {row.layer}")
    return lines


def _table(rows: Sequence[Row]) -> list[str]:
    shown = list(rows)
    left_out = len(shown) - _MOST_ROWS
    if left_out > 0:
        shown = shown[: _MOST_ROWS // 2] + shown[-_MOST_ROWS // 2 :]
    table = [list(_COLUMNS), *(cells(row) for row in shown)]
    widths = [max(len(line[i]) for line in table) for i in range(len(_COLUMNS))]
    lines = []
    for place, line in enumerate(table):
        texts = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(texts).rstrip())
        if left_out > 0 and place == _MOST_ROWS // 2:
            lines.append(f"... {left_out} more rows ...")
    return lines


def rich_report(report: Report) -> Any:
    """The same for rich.print(report), whose table knows the terminal's width and colours."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    colours = {"error": "red", "warning": "yellow", "info": "cyan", "ok": "green"}
    lines = [Text(f"{MARKS[v.severity]} {v}", colours[v.severity]) for v in report.verdicts]
    table = Table(box=None)
    for place, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if place < 2 else "right", no_wrap=place > 1)
    for row in report.rows:
        table.add_row(*map(Text, cells(row)))
    first = report.verdicts.index(report.verdict)
    again = lines[first : first + 1] if len(report.rows) > _MOST_ROWS_IN_SIGHT else []
    return Group(*lines, *map(Text, _slopes(report)), table, *map(Text, notes(report)), *again)
