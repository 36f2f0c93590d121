# SPDX-License-Identifier: Apache-2.0
"""Signal and gradient along the depth: vanishing and exploding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch_init.flow.advice import mend_depth, weights_in_words
from torch_init.flow.rows import Row, Slope
from torch_init.flow.verdicts import Verdict

if TYPE_CHECKING:
    from torch_init.flow.report import Report


_CLIFF = 0.6
"""Share of the whole change, in ln, that makes one step the place of it: more than one half, so
that there is at most one, and a tenth more, so that noise on an even decline makes none."""
_AGREES = 0.1
"""In ln, a tenth of the factor per layer: weights of 100 x 100 scatter by sqrt(2) / 100."""
_BLOCKING = ("zero_signal", "zero_gradient", "dead", "non_finite")


def along_depth(report: Report, so_far: Sequence[Verdict]) -> list[Verdict]:
    """Vanishing and exploding: backward if gradients were measured, else forward."""
    if any(v.kind in _BLOCKING and v.severity == "error" for v in so_far):
        return []
    t = report.thresholds
    found = []
    for name, slope in (("gradient", report.slope), ("signal", report.signal_slope)):
        if slope is None:
            continue
        vanishes = slope.total < t.vanish_total and slope.per_layer < t.vanish_slope
        explodes = slope.total > t.explode_total and slope.per_layer > t.explode_slope
        if (vanishes and slope.fitted_total < t.vanish_total) or slope.total == 0:
            found.append(_depth_verdict(report, name, slope, "vanishing"))
        elif explodes and slope.fitted_total > t.explode_total:
            found.append(_depth_verdict(report, name, slope, "exploding"))
    # Signal and gradient often change together: one verdict of a kind, the gradient's first.
    return list({v.kind: v for v in reversed(found)}.values())[::-1]


def _depth_verdict(report: Report, name: str, slope: Slope, kind: str) -> Verdict:
    rows = report.depth
    cliff = _cliff(rows, name, slope)
    starved = slope.first if name == "gradient" else slope.last
    source = slope.last if name == "gradient" else slope.first
    measured = (
        f"the {name} changes by a factor of {slope.factor:.3g} per layer over {slope.layers} "
        f"layers; `{starved}` has {slope.total:.2g} times that of `{source}`"
    )
    expected = _expected_factor(rows, name)
    if expected is not None:
        agrees = slope.factor > 0 and abs(math.log(expected / slope.factor)) < _AGREES
        words = f"{expected:.3g} per layer for these weights"
        words += "" if agrees else ", so that the model computes something else"
    else:
        words = "about 1 per layer"
    cause = weights_in_words(rows)
    layer = starved
    if cliff:
        layer = cliff
        cause = f"most of it {'is lost' if kind == 'vanishing' else 'arises'} at `{cliff}`"
    suggestion = mend_depth(rows, report.has_sums, kind == "vanishing")
    return Verdict(kind, "error", layer, measured, words, cause, suggestion)


def _cliff(rows: Sequence[Row], name: str, slope: Slope) -> str:
    """The layer where most of the change happens, if it happens in one place."""
    sizes = [r.gradient_norm if name == "gradient" else r.rms for r in rows]
    if len(sizes) < 4 or min(sizes) <= 0 or slope.total in (0, math.inf):
        zero = [r.layer for r, size in zip(rows, sizes, strict=True) if size == 0]
        return (zero[-1] if name == "gradient" else zero[0]) if zero else ""
    whole = abs(math.log(slope.total))
    steps = [abs(math.log(b / a)) for a, b in itertools.pairwise(sizes)]
    largest = max(steps)
    if largest < _CLIFF * whole:
        return ""
    place = steps.index(largest)
    return rows[place].layer if name == "gradient" else rows[place + 1].layer


def _expected_factor(rows: Sequence[Row], name: str) -> float | None:
    values = [r.expected_gradient_norm if name == "gradient" else r.expected_rms for r in rows]
    if len(values) < 2 or any(v is None or not v > 0 for v in values):
        return None
    first, last = values[0], values[-1]
    assert first is not None and last is not None
    ratio = first / last if name == "gradient" else last / first
    return float(ratio ** (1 / (len(values) - 1)))
