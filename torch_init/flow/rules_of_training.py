# SPDX-License-Identifier: Apache-2.0
"""What a window of training shows: that it ran, numbers that are not finite, steps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch_init.flow.rows import HALF, ParameterRow, Row
from torch_init.flow.verdicts import Verdict

if TYPE_CHECKING:
    from torch_init.flow.report import Report


def non_finite(report: Report) -> list[Verdict]:
    """The first tensor that held a NaN or an infinity."""
    origin = report.nonfinite_origin
    if origin is None:
        return []
    skipped = report.is_scaled and origin.direction == "backward"
    return [
        Verdict(
            "non_finite",
            "warning" if skipped else "error",
            origin.layer,
            origin.sentence,
            "finite numbers",
            "the scaled loss overflowed; GradScaler skips such steps and lowers its scale"
            if skipped
            else origin.cause,
            "" if skipped else origin.suggestion,
        )
    ]


def update_too_large(report: Report) -> list[Verdict]:
    """A step as large as the weights. What begins at zero has no size to compare with."""
    moved = moving_weights(report, [row for row in report.rows if row.weight_gain == 0])
    largest = max(moved, key=lambda p: p.update_ratio, default=None)
    if largest is None or largest.update_ratio <= report.thresholds.update_too_large:
        return []
    return [
        Verdict(
            "update_too_large",
            "warning",
            largest.name,
            f"a step changes its weights by {largest.update_ratio:.2g} times their size",
            "about 1e-3 to 1e-2",
            "the learning rate is too large for weights of this size",
            "lower the learning rate, or warm it up",
        )
    ]


def update_too_small(report: Report) -> list[Verdict]:
    """A layer that hardly moves while the others do.

    Tables are left out: a step of SGD moves the few rows that were looked up, which the sample of
    a parameter's elements can miss.
    """
    moved = moving_weights(report, [row for row in report.rows if row.role == "embedding"])
    if not moved:
        return []
    median = statistics.median(p.update_ratio for p in moved)
    smallest = min(moved, key=lambda p: p.update_ratio)
    still = smallest.update_ratio == 0 and smallest.gradient_rms > 0
    # Without a moving one the learning rate is 0: so begins a warm-up.
    rounded = still and smallest.dtype in HALF and any(p.update_rms > 0 for p in report.parameters)
    if not rounded and not 0 < smallest.update_ratio < median / report.thresholds.update_spread:
        return []
    return [
        Verdict(
            "update_too_small",
            "warning",
            smallest.name,
            f"a step changes its weights by {smallest.update_ratio:.1g} times their size, "
            f"the median layer's by {median:.1g}",
            f"within a factor of {report.thresholds.update_spread:g} of the others",
            f"every change is lost in rounding to {smallest.dtype}"
            if rounded
            else "its gradient is that much smaller",
            "keep float32 master weights"
            if rounded
            else "see the verdict on the gradient; give this layer a larger learning rate, or "
            "use an optimizer that scales each parameter's step (Adam)",
        )
    ]


def moving_weights(report: Report, rows: Sequence[Row]) -> list[ParameterRow]:
    """The parameters of two dimensions or more whose update was measured, but for these rows'."""
    others = {f"{row.layer.split('#')[0]}.weight" for row in rows}
    return [
        p
        for p in report.parameters
        if len(p.shape) >= 2
        and math.isfinite(p.update_ratio)
        and p.weight_rms > 0
        and others.isdisjoint(p.names)
    ]


def no_data(report: Report) -> list[Verdict]:
    """A window in which nothing was seen: an empty report must not look like a healthy one."""
    if report.rows:
        return []
    if report.unsupported and (report.passes or report.ran_unseen):
        layer, reason = next(iter(report.unsupported.items()))
        others = len(report.unsupported) - 1
        more = f", and {others} more" if others else ""
        return [
            Verdict(
                "no_data",
                "error",
                layer,
                f"nothing could be measured: {reason}{more}",
                "dense tensors of real numbers on the CPU or, if the build has its kernels, a GPU",
                "the model ran, and all that its modules return is of another kind",
                "see the report's `unsupported`",
            )
        ]
    if report.ran_unseen:
        return [
            Verdict(
                "no_data",
                "error",
                "",
                "the compiled model ran, but none of the hooks did",
                "",
                "torch.compile does not notice hooks that are added after a model's first "
                "compiled call",
                "watch the model before that call, or call torch.compiler.reset() after watch()",
            )
        ]
    return [
        Verdict(
            "no_data",
            "error",
            "",
            "no forward pass was seen",
            "",
            "the model was not called while it was watched, or it was compiled before, and "
            "torch.compile does not notice hooks that are added later",
            "call the model inside the with block; if it is compiled, watch it before its first "
            "call or call torch.compiler.reset()",
        )
    ]
