# SPDX-License-Identifier: Apache-2.0
"""Zeros and what no gradient reaches: layers that will never learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_init.flow.advice import call_for
from torch_init.flow.rows import HALF, Row
from torch_init.flow.verdicts import Verdict

if TYPE_CHECKING:
    from torch_init.flow.report import Report


def zero_signal(report: Report) -> list[Verdict]:
    """Weights of exactly zero that will never learn.

    So will those of several layers in a row, for all practical purposes, if only biases are left.

    Zeros on purpose, at the end of a residual branch, in a gate, an adapter or the output layer,
    are no fault: a gradient reaches them and they move, sooner or later (waking.py). A zero output
    layer that keeps the first step's gradient from the layers before it is information.
    """
    stuck = [row for row in report.weighted if row.rms == 0 and _never_learns(report, row)]
    if stuck:
        return [_stuck(stuck[0], stuck[1:])]
    for place, row in enumerate(report.weighted):
        before = [r for r in report.weighted[:place] if r.backward_calls]
        is_zero = row.weight_gain == 0 and row.gradient_norm > 0
        if is_zero and before and all(r.gradient_norm == 0 for r in before):
            waiting = [r for r in before if r.weight_gain == 0 and not r.is_bypassed]
            return [_one_by_one(waiting, row) if waiting else _late_start(row)]
    return []


def _stuck(first: Row, others: list[Row]) -> Verdict:
    also = f", nor those of {len(others)} more layers" if others else ""
    also = f", nor those of `{others[0].layer}`" if len(others) == 1 else also
    return Verdict(
        "zero_signal",
        "error",
        first.layer,
        "its weights are exactly 0, and no gradient will ever move them" + also,
        "zeros in one layer at most of a way through the model, at its end",
        "each of these layers keeps the signal or the gradient from the others"
        if others
        else "its output is 0, where the slope of what follows is 0 as well",
        f"initialise with {call_for(first)}",
    )


def _one_by_one(waiting: list[Row], last: Row) -> Verdict:
    """Layers of zeros in a row whose biases are not: each wakes the one before it, and slowly."""
    return Verdict(
        "zero_signal",
        "error",
        waiting[0].layer,
        f"the weights of {1 + len(waiting)} layers in a row, up to `{last.layer}`, are exactly 0: "
        "what follows is the same for every example",
        "a signal that depends on the input",
        "only the biases are not 0; a step lets the gradient pass one more of these layers, by as "
        "little as the step moved it",
        f"initialise with {call_for(waiting[0])}",
    )


def _late_start(row: Row) -> Verdict:
    return Verdict(
        "zero_signal",
        "info",
        row.layer,
        "its output is the same for every example, and no gradient passes back through it",
        "a signal that depends on the input",
        "its weights are exactly 0; the layers before it learn from the second step on",
    )


def _never_learns(report: Report, row: Row) -> bool:
    if row.never_learns is not None:
        return row.never_learns
    # Without the graph: a layer that blocks both ways, and that nothing goes around.
    blocks = row.weight_gain in (0, None) and not row.gradient_norm > 0
    return blocks and not _comes_after_dead(report, row) and not _signal_goes_on(report, row)


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


def _comes_after_dead(report: Report, row: Row) -> bool:
    before = report.rows[: report.rows.index(row)]
    return any(r.dead == 1.0 or (r.role == "activation" and r.rms == 0) for r in before)


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


def no_grad(report: Report) -> list[Verdict]:
    """Layers, or else parameters, that should learn and are not reached by any gradient."""
    return _unreached_layers(report) or _unreached_parameters(report)


def _unreached_layers(report: Report) -> list[Verdict]:
    some = any(row.backward_calls for row in report.rows)
    missed = [
        row
        for row in report.weighted
        if some and row.needs_grad and not row.backward_calls and row.calls
    ]
    if not missed:
        return []
    row = missed[-1]
    more = f" (and {len(missed) - 1} layers before it)" if len(missed) > 1 else ""
    return [
        Verdict(
            "no_grad",
            "error",
            row.layer,
            f"no gradient reached its output{more}",
            "a gradient in every backward pass",
            "after it the signal is detached, goes through torch.no_grad(), or is not used "
            "for the loss",
            "look for .detach(), .data, .item(), torch.no_grad() or numpy between it and the loss",
        )
    ]


def _unreached_parameters(report: Report) -> list[Verdict]:
    unreached = [
        p for p in report.parameters if p.requires_grad and p.steps and p.missing == p.steps
    ]
    if not unreached:
        return []
    names = ", ".join(f"`{p.name}`" for p in unreached[:3])
    more = f" and {len(unreached) - 3} more" if len(unreached) > 3 else ""
    return [
        Verdict(
            "no_grad",
            "warning",
            unreached[0].name,
            f"{names}{more}: no gradient in any of {unreached[0].steps} steps",
            "a gradient at every step",
            "not used in the forward pass, or detached",
            "use it, or set requires_grad_(False) if it should stay as it is",
        )
    ]
