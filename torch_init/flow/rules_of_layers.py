# SPDX-License-Identifier: Apache-2.0
"""Faults of single layers: each rule looks for one and names the layer where it begins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch_init.flow.advice import RECTIFYING, call_for
from torch_init.flow.rows import HALF, Row
from torch_init.flow.verdicts import Verdict

if TYPE_CHECKING:
    from torch_init.flow.report import Report


def dead(report: Report) -> list[Verdict]:
    """Units that were not positive once.

    Independent zero-mean weights leave at most half of the units so, however deep the layer and
    however alike the examples; a threshold below that would blame correct initialisations.
    """
    for place, row in enumerate(report.rows):
        judged = row.role == "activation" or row.nonlinearity in RECTIFYING
        if not judged or row.dead is None or row.samples < 2 or row.dead < report.thresholds.dead:
            continue
        source = _weighted_before(report, place)
        if source.rms == 0:
            continue  # zero_signal's case
        if feeding := [r for r in report.rows[: place + 1] if r.role in ("norm", "weighted")]:
            source = feeding[-1]
        whole = row.dead == 1.0
        expected = "at most 50%"
        if row.expected_dead is not None:
            expected = f"{row.expected_dead:.0%} with independent weights, {expected} at any depth"
        return [
            Verdict(
                "dead",
                "error" if whole else "warning",
                source.layer,
                f"{row.dead:.0%} of its units were not positive for any of {row.samples} examples"
                + (", and no gradient passes" if whole else ""),
                expected,
                "its pre-activations are negative for every example: look at its bias"
                if whole
                else "large negative biases, or a step that was too large",
                "initialise its bias with torch_init.zeros_(bias), its weight with "
                "torch_init.ones_(weight)"
                if source.role == "norm"
                else f"initialise with {call_for(source)}, the bias with torch_init.zeros_(bias)",
            )
        ]
    return []


def _weighted_before(report: Report, place: int) -> Row:
    """The weighted layer that feeds a row, or the row itself."""
    for row in reversed(report.rows[: place + 1]):
        if row.role == "weighted":
            return row
    return report.rows[place]


def symmetric(report: Report) -> list[Verdict]:
    """Units that are copies of each other: they get equal updates and stay copies."""
    for row in report.weighted[:-1]:
        if row.unit_spread is None or row.samples < 2 or row.rms == 0:
            continue
        if row.unit_spread < report.thresholds.symmetric:
            return [
                Verdict(
                    "symmetric",
                    "error",
                    row.layer,
                    f"its {row.units} units are identical (relative difference "
                    f"{row.unit_spread:.1g})",
                    "a relative difference near 1",
                    "they began with equal weights, get equal gradients and will stay equal",
                    f"break the symmetry with {call_for(row)}",
                )
            ]
    return []


def saturated(report: Report) -> list[Verdict]:
    """A bounded nonlinearity at its bounds, where its slope is nearly 0."""
    bounded = [
        row
        for row in report.rows
        if not math.isnan(row.saturated)
        and (row.role == "activation" or row.nonlinearity in ("tanh", "hardtanh"))
    ]
    # A trained classifier is sure: its output's sigmoid is where it belongs.
    last = report.rows.index(report.weighted[-1]) if len(report.weighted) > 1 else len(report.rows)
    over = [
        row
        for row in bounded
        if row.saturated > report.thresholds.saturated and report.rows.index(row) < last
    ]
    if not over:
        return []
    row = over[0]
    feeding = _weighted_before(report, report.rows.index(row))
    gain = feeding.weight_gain
    cause = "its pre-activations are too large"
    if gain is not None:
        cause += f": the weights' variance is {gain:.3g} / fan_in"
    layers = f" (and {len(over) - 1} more layers)" if len(over) > 1 else ""
    return [
        Verdict(
            "saturated",
            "warning",
            feeding.layer,
            f"{row.saturated:.0%} of its units are where the slope is under 2 % of its "
            f"largest{layers}",
            "a small share",
            cause,
            f"initialise with {call_for(feeding)}",
        )
    ]


def collapsed(report: Report) -> list[Verdict]:
    """A signal that no longer depends on the example."""
    judged = [
        row
        for row in report.rows
        if row.batch_std is not None and row.samples > 1 and row.std > 0 and row.units > 1
    ]
    limit = report.thresholds.batch_collapse
    alike = [row.batch_std is not None and row.batch_std < limit * row.std for row in judged]
    # From some layer to the end: a constant side branch is no collapse, a constant batch neither.
    start = len(alike) - next((n for n, one in enumerate(reversed(alike)) if not one), len(alike))
    if start in (0, len(judged)):
        return []
    row = judged[start]
    if row.weight_gain == 0:
        return []  # zero_signal's case
    return [
        Verdict(
            "collapsed",
            "warning",
            row.layer,
            "its output is the same for every example: standard deviation over the batch "
            f"{row.batch_std:.1e}, over all elements {row.std:.2g}",
            "both of a size",
            "each layer brings the examples closer together, and what is left of the input drowns "
            "in rounding or beside the biases",
            "fewer layers, ReLU with torch_init.he_(weight), normalisation or residual connections",
        )
    ]


def underflow(report: Report) -> list[Verdict]:
    """Half-precision gradients below the smallest normal number."""
    worst: Row | None = None
    for row in report.rows:
        if (
            row.dtype in HALF
            and row.backward_calls
            and row.gradient_subnormal
            > (worst.gradient_subnormal if worst else report.thresholds.underflow)
        ):
            worst = row
    if worst is None:
        return []
    # Lift the root mean square to 2^-4, well inside the range on both sides.
    exponent = 0
    if worst.gradient_rms > 0:
        exponent = max(1, round(-4 - math.log2(worst.gradient_rms)))
    scaled = " beyond the scale in use" if report.is_scaled else ""
    return [
        Verdict(
            "underflow",
            "warning",
            worst.layer,
            f"{worst.gradient_subnormal:.0%} of the non-zero elements of its gradient are "
            f"subnormal in {worst.dtype} (root mean square {worst.gradient_rms:.1e})",
            "none",
            "the gradient is too small for the dtype's exponent and loses digits or becomes 0",
            f"scale the loss{scaled}: torch.amp.GradScaler(init_scale=2.0**{min(exponent, 30)}), "
            "or use bfloat16, whose exponent is float32's",
        )
    ]
