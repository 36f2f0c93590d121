# SPDX-License-Identifier: Apache-2.0
"""The rules that look along the depth, at origins and at the optimizer's steps."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch_init.flow.advice import mend_depth, weights_in_words
from torch_init.flow.rows import HALF, Row, Slope
from torch_init.flow.verdicts import Verdict

if TYPE_CHECKING:
    from torch_init.flow.report import Report

_CLIFF = 0.6
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
        agrees = abs(math.log(expected / slope.factor)) < 0.1 if slope.factor > 0 else False
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


def no_grad(report: Report) -> list[Verdict]:
    """Layers and parameters that should learn and are not reached by any gradient."""
    found = []
    some = any(row.backward_calls for row in report.rows)
    missed = [
        row
        for row in report.weighted
        if some and row.needs_grad and not row.backward_calls and row.calls
    ]
    if missed:
        row = missed[-1]
        more = f" (and {len(missed) - 1} layers before it)" if len(missed) > 1 else ""
        found.append(
            Verdict(
                "no_grad",
                "error",
                row.layer,
                f"no gradient reached its output{more}",
                "a gradient in every backward pass",
                "after it the signal is detached, goes through torch.no_grad(), or is not used "
                "for the loss",
                "look for .detach(), .data, .item(), torch.no_grad() or numpy between it and the "
                "loss",
            )
        )
    unreached = [
        p for p in report.parameters if p.requires_grad and p.steps and p.missing == p.steps
    ]
    if unreached and not missed:
        names = ", ".join(f"`{p.name}`" for p in unreached[:3])
        more = f" and {len(unreached) - 3} more" if len(unreached) > 3 else ""
        found.append(
            Verdict(
                "no_grad",
                "warning",
                unreached[0].name,
                f"{names}{more}: no gradient in any of {unreached[0].steps} steps",
                "a gradient at every step",
                "not used in the forward pass, or detached",
                "use it, or set requires_grad_(False) if it should stay as it is",
            )
        )
    return found


def zero_gradient(report: Report) -> list[Verdict]:
    """Backward passes that brought no gradient to anything: of those no other rule can speak."""
    reached = [row for row in report.rows if row.backward_calls]
    if not reached or any(row.gradient_norm != 0 for row in reached):
        return []
    if report.nonfinite_origin is not None:
        return []  # a norm is over the finite elements
    if any(p.gradient_norm != 0 for p in report.parameters if p.steps > p.missing):
        return []  # of a part of the model that was not watched
    row = reached[-1]
    half = next((row.dtype for row in reversed(reached) if row.dtype in HALF), "")
    return [
        Verdict(
            "zero_gradient",
            "error",
            row.layer,
            f"every gradient is exactly 0, in all of {row.backward_calls} backward passes",
            "a gradient at the model's output",
            f"the loss's gradient is below the smallest number of {half} and became 0"
            if half
            else "the loss does not depend on the output here: a factor of 0, a mask that leaves "
            "nothing, a clamp or another flat place",
            "scale the loss: torch.amp.GradScaler, or use bfloat16, whose exponent is float32's"
            if half == "float16"
            else "look at the loss: at what multiplies it, and at its masks and clamps",
        )
    ]


def updates(report: Report) -> list[Verdict]:
    """Steps as large as the weights; layers that hardly move while others do."""
    moved = [
        p
        for p in report.parameters
        if len(p.shape) >= 2 and math.isfinite(p.update_ratio) and p.weight_rms > 0
    ]
    if not moved:
        return []
    found = []
    largest = max(moved, key=lambda p: p.update_ratio)
    if largest.update_ratio > report.thresholds.update_too_large:
        found.append(
            Verdict(
                "update_too_large",
                "warning",
                largest.name,
                f"a step changes its weights by {largest.update_ratio:.2g} times their size",
                "about 1e-3 to 1e-2",
                "the learning rate is too large for weights of this size",
                "lower the learning rate, or warm it up",
            )
        )
    # A step of SGD moves the few rows of a table that were looked up: a sample can miss them.
    tables = {f"{row.layer.split('#')[0]}.weight" for row in report.rows if row.role == "embedding"}
    moved = [p for p in moved if tables.isdisjoint(p.names)]
    if not moved:
        return found
    median = statistics.median(p.update_ratio for p in moved)
    smallest = min(moved, key=lambda p: p.update_ratio)
    still = smallest.update_ratio == 0 and smallest.gradient_rms > 0
    # Without a moving one the learning rate is 0: so begins a warm-up.
    rounded = still and smallest.dtype in HALF and any(p.update_rms > 0 for p in report.parameters)
    if rounded or 0 < smallest.update_ratio < median / report.thresholds.update_spread:
        found.append(
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
        )
    return found


def no_data(report: Report) -> list[Verdict]:
    """A window in which nothing was seen: an empty report must not look like a healthy one."""
    if report.rows:
        return []
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


INDEPENDENT: tuple[Callable[[Report], list[Verdict]], ...] = (
    no_data,
    non_finite,
    no_grad,
    zero_gradient,
    updates,
)
