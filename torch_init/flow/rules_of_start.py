# SPDX-License-Identifier: Apache-2.0
"""What only untrained weights can be blamed for: a start that is not what it should be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch_init.flow.advice import call_for
from torch_init.flow.verdicts import Verdict
from torch_init.schemes import calculate_gain

if TYPE_CHECKING:
    from torch_init.flow.report import Report


_LARGEST_SPIKE = 1.08
"""Independent weights stay below 1.02 at the widths of use; training exceeds 1.1 early."""


def init_mismatch(report: Report) -> list[Verdict]:
    """A weight initialised for a nonlinearity that is not there; a signal its weights disown."""
    found = _forgotten_activation(report)
    trained = any((row.weight_spike or 0) > _LARGEST_SPIKE for row in report.weighted)
    if found or trained or report.steps > 1:
        return found  # of trained weights no theory of independent ones can say anything
    before = 0.0
    for row in report.weighted:
        if not row.is_predicted or not row.expected_rms or not row.rms > 0:
            continue
        change = math.log(row.rms / row.expected_rms)
        scatter = 1.5 * math.sqrt(2 / max(1, row.units) + 5 / max(1, row.fan_in or 1))
        if abs(change - before) > math.log(report.thresholds.mismatch) + scatter:
            return [
                Verdict(
                    "init_mismatch",
                    "warning",
                    row.layer,
                    f"its output's root mean square is {row.rms:.3g}",
                    f"{row.expected_rms:.3g} for independent zero-mean weights of this size",
                    "its input or its output is not what the graph shows, or its weights are "
                    "tied to the input",
                    f"look for .data and custom functions before it, or initialise with "
                    f"{call_for(row)}",
                )
            ]
        before = change
    return []


def _forgotten_activation(report: Report) -> list[Verdict]:
    hidden = report.weighted[:-1]
    rectified = [row for row in hidden if row.nonlinearity in ("relu", "leaky_relu")]
    if not rectified:
        return []
    for place, row in enumerate(hidden):
        if row.nonlinearity != "linear" or row.weight_gain is None:
            continue
        if row.units < min(row.fan_in or 1, report.weighted[place + 1].units):
            continue  # narrower than both sides: a factorised matrix, linear on purpose
        scatter = 3 * math.sqrt(2 / max(1, (row.fan_in or 1) * row.units))
        for_relu = abs(row.weight_gain / calculate_gain("relu") ** 2 - 1) < 0.1 + scatter
        if for_relu:
            return [
                Verdict(
                    "init_mismatch",
                    "warning",
                    row.layer,
                    f"its weights' variance is {row.weight_gain:.2f} / fan_in, and no "
                    "nonlinearity follows it",
                    "2 / fan_in before ReLU, as in the other layers, 1 / fan_in without",
                    "an activation was forgotten after it: two linear layers in a row are one",
                    "add the activation, or initialise with torch_init.xavier_(weight)",
                )
            ]
    return []
