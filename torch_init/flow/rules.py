# SPDX-License-Identifier: Apache-2.0
"""The rules for single layers: each looks for one thing and names the layer where it begins."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch_init.flow.advice import CRITICAL, RECTIFYING, initialiser_for
from torch_init.flow.rows import HALF, Row
from torch_init.flow.verdicts import Verdict

if TYPE_CHECKING:
    from torch_init.flow.report import Report

_LARGEST_SPIKE = 1.08
"""Independent weights stay below 1.02 at the widths of use; training exceeds 1.1 early."""


def zero_signal(report: Report) -> list[Verdict]:
    """A weight of exactly zero that nothing goes around, and that no gradient reaches either.

    Zeros on purpose, at the end of a residual branch, in a gate, an adapter or the output layer,
    are no fault: the signal goes around them, or the gradient reaches them and they move.
    """
    weighted = report.weighted
    for place, row in enumerate(weighted):
        is_zero = row.rms == 0 and (row.weight_gain == 0 or row.weight_gain is None)
        if not is_zero or _comes_after_dead(report, row):
            continue
        learns = row.gradient_norm > 0
        before = [r for r in weighted[:place] if r.backward_calls]
        if learns and before and all(r.gradient_norm == 0 for r in before):
            return [_zero(row, "info", "; the layers before it learn from the second step on", "")]
        if not learns and not _signal_goes_on(report, row):
            return [_zero(row, "error", "", f"initialise with {_call(row)}")]
    return []


def _zero(row: Row, severity: str, consequence: str, suggestion: str) -> Verdict:
    return Verdict(
        "zero_signal",
        severity,
        row.layer,
        "its output is exactly 0 for every example, and no gradient passes back through it",
        "a signal that depends on the input",
        "its weights and biases are all zero" + consequence,
        suggestion,
    )


def _signal_goes_on(report: Report, row: Row) -> bool:
    """Whether anything that comes after a row still depends on the example."""
    place = report.rows.index(row)
    before, after = report.rows[:place], report.rows[place + 1 :]
    if row.batch_std is None or row.samples < 2 or any(r.rms > 0 and _is_level(r) for r in before):
        return any(r.rms > 0 for r in after)  # one example, or copies of one
    return any(r.rms > 0 and not _is_level(r) for r in after)


def _is_level(row: Row) -> bool:
    """Whether it is the same for every example; 1e-6 is what rounding leaves."""
    return (row.batch_std or 0.0) <= 1e-6 * row.rms


def _call(row: Row) -> str:
    return initialiser_for(row.nonlinearity) or "torch_init.xavier_(weight)"


def _comes_after_dead(report: Report, row: Row) -> bool:
    before = report.rows[: report.rows.index(row)]
    return any(r.dead == 1.0 or (r.role == "activation" and r.rms == 0) for r in before)


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
                else f"initialise with {_call(source)} and the bias with torch_init.zeros_(bias)",
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
                    f"break the symmetry with {_call(row)}",
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
            f"initialise with {_call(feeding)}",
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
                    f"{_call(row)}",
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
        for_relu = abs(row.weight_gain / CRITICAL["relu"] - 1) < 0.1 + scatter
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


RULES: tuple[Callable[[Report], list[Verdict]], ...] = (
    zero_signal,
    dead,
    symmetric,
    saturated,
    collapsed,
    underflow,
    init_mismatch,
)
