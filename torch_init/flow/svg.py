# SPDX-License-Identifier: Apache-2.0
"""Line charts on a logarithmic axis as SVG text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 520, 276
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 62
_MOST_LABELS, _MOST_TICKS = 12, 7


class Line(NamedTuple):
    """Values by layer, drawn in a CSS class; None and what is not positive leaves a gap."""

    style: str
    values: Sequence[float | None]


def chart(names: Sequence[str], measured: Line, expected: Line, tolerance: Sequence[float]) -> str:
    """Return an SVG element: measured with points and tooltips, expected with its band."""
    logs = [_logs(measured.values), _logs(expected.values)]
    known = [value for line in logs for value in line if value is not None]
    low, high = _range(known)
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(place: int) -> float:
        return _LEFT + inner_width * (place / max(1, len(names) - 1))

    def y(value: float) -> float:
        return _TOP + inner_height * (high - min(max(value, low), high)) / (high - low)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">']
    for tick in _ticks(low, high):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" '
            f'y2="{y(tick):.1f}"/><text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" '
            f'text-anchor="end">{10.0**tick:.3g}</text>'
        )
    step = max(1, math.ceil(len(names) / _MOST_LABELS))
    for place in range(0, len(names), step):
        name = names[place] if len(names[place]) <= 14 else "…" + names[place][-13:]
        parts.append(
            f'<text x="{x(place):.1f}" y="{_HEIGHT - _BOTTOM + 14}" text-anchor="end" '
            f'transform="rotate(-35 {x(place):.1f} {_HEIGHT - _BOTTOM + 14})">{escape(name)}</text>'
        )
    for band in _runs(logs[1]):
        top = [(x(i), y(v + math.log10(tolerance[i]))) for i, v in band]
        bottom = [(x(i), y(v - math.log10(tolerance[i]))) for i, v in reversed(band)]
        parts.append(f'<polygon class="band" points="{_points(top + bottom)}"/>')
    for line, values in zip((measured, expected), logs, strict=True):
        for run in _runs(values):
            points = _points([(x(i), y(v)) for i, v in run])
            parts.append(f'<polyline class="{line.style}" points="{points}"/>')
    for place, value in enumerate(logs[0]):
        if value is not None:
            text = f"{names[place]}: {measured.values[place]:.3g}"
            if (wanted := expected.values[place]) is not None:
                text += f", expected {wanted:.3g}"
            parts.append(
                f'<circle class="md" cx="{x(place):.1f}" cy="{y(value):.1f}" r="3">'
                f"<title>{escape(text)}</title></circle>"
            )
    return "".join([*parts, "</svg>"])


def _logs(values: Sequence[float | None]) -> list[float | None]:
    return [math.log10(v) if v is not None and math.isfinite(v) and v > 0 else None for v in values]


def _range(known: Sequence[float]) -> tuple[float, float]:
    """At least one decade, so that a level line looks level."""
    low, high = min(known), max(known)
    margin = max(0.06 * (high - low), (1.0 - (high - low)) / 2)
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Powers of ten; with 2 and 5 times them, where that leaves few."""
    first, last = math.ceil(low), math.floor(high)
    step = max(1, math.ceil((last - first) / _MOST_TICKS))
    if last - first >= 2:
        return [float(tick) for tick in range(first, last + 1) if tick % step == 0]
    all_ticks = [math.log10(m) + d for d in range(first - 1, last + 1) for m in (1, 2, 5)]
    return [tick for tick in all_ticks if low <= tick <= high]


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Stretches without gaps, each as (place, value)."""
    runs: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((place, value))
    return [run for run in runs if run]


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in pairs)
