# SPDX-License-Identifier: Apache-2.0
"""What only untrained weights can be blamed for: a start that is not what it should be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch_init.flow.advice import call_for
from torch_init.flow.rows import Row
from torch_init.flow.verdicts import Verdict
from torch_init.schemes import calculate_gain

if TYPE_CHECKING:
    from torch_init.flow.report import Report

LARGEST_SPIKE = 1.08
"""How far the largest singular value may lie beyond the edge of untrained spectra.

It scatters about the edge (Johnstone 2001): 1.04 was the largest of a zoo of small networks
(benchmarks/flow_false_alarms.py). What training adds lies beyond.
"""
_HE_MARGIN = 0.1
"""A variance of 2 / fan_in up to a tenth: LeCun's and Xavier's are half of it, torch's a sixth."""
_LARGE_INPUT = 2.0
"""Root mean square beyond which an input is called large: twice that of a normalised one."""


def init_mismatch(report: Report) -> list[Verdict]:
    """A weight initialised for a nonlinearity that is not there; a signal its weights disown."""
    found = _forgotten_activation(report)
    if found or looks_trained(report):
        return found
    for row, jump, allowed in signal_jumps(report):
        if jump > allowed:
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
    return []


def blames_the_start(report: Report) -> bool:
    """Whether a verdict here would be given on untrained weights: then it is worth a look."""
    return bool(init_mismatch(report) or initial_loss(report))


def looks_trained(report: Report) -> bool:
    """Whether no theory of independent weights has anything to say of these."""
    return report.steps > 1 or any(
        (row.weight_spike or 0) > LARGEST_SPIKE for row in report.weighted
    )


def signal_jumps(report: Report) -> Iterator[tuple[Row, float, float]]:
    """Yield by how much each layer moves the signal away from its expectation, and may do so.

    Both are in ln. Allowed is a factor of Thresholds.mismatch and what a finite width scatters by:
    1.5 sqrt(2 / units + 5 / fan_in) is three standard deviations of half the logarithm of a mean
    square over `units` normal numbers, after a layer of fan_in inputs (Hanin & Nica 2020).
    """
    before = 0.0
    for row in report.weighted:
        ratio = row.rms / row.expected_rms if row.is_predicted and row.expected_rms else 0.0
        if not 0 < ratio < math.inf:
            continue
        change = math.log(ratio)
        scatter = 1.5 * math.sqrt(2 / max(1, row.units) + 5 / max(1, row.fan_in or 1))
        yield row, abs(change - before), math.log(report.thresholds.mismatch) + scatter
        before = change


def _forgotten_activation(report: Report) -> list[Verdict]:
    hidden = report.weighted[:-1]
    if not any(row.nonlinearity in ("relu", "leaky_relu") for row in hidden):
        return []
    for row, following in zip(hidden, report.weighted[1:], strict=True):
        if row.nonlinearity != "linear" or row.weight_gain is None:
            continue
        fan_in = max(1, row.fan_in or 1)
        if row.units < min(fan_in, following.units):
            continue  # narrower than both sides: a factorised matrix, linear on purpose
        # Three standard deviations of the mean square of that many normal weights.
        scatter = 3 * math.sqrt(2 / (fan_in * max(1, row.units)))
        if abs(row.weight_gain / calculate_gain("relu") ** 2 - 1) < _HE_MARGIN + scatter:
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


def initial_loss(report: Report) -> list[Verdict]:
    """A cross-entropy at the start that is far above that of a guess, ln K for K classes.

    Half way to the limit it is information: the first steps will take it back. One below a guess is
    no fault: biases that begin at the logarithm of the classes' shares are one.
    """
    loss = report.initial_loss
    if loss is None or not report.weighted or looks_trained(report):
        return []
    head = report.weighted[-1]
    limit = report.thresholds.initial_loss
    if loss.excess <= limit / 2:
        return []
    cause, suggestion = _reason_for_large_logits(report.weighted[0], head)
    return [
        Verdict(
            "initial_loss",
            "warning" if loss.excess > limit else "info",
            head.layer,
            f"the cross-entropy begins at {loss.value:.3g}, with logits of standard deviation "
            f"{loss.logit_std:.2g}",
            f"ln {loss.classes} = {math.log(loss.classes):.2f} for a model that knows nothing, and "
            "half more with logits of size 1",
            cause,
            suggestion,
        )
    ]


def _reason_for_large_logits(first: Row, head: Row) -> tuple[str, str]:
    """Say whether the last layer's weights, the input or what lies between makes them large."""
    entering, arriving = _input_size(first), _input_size(head)
    gain = head.weight_gain
    if gain is not None and arriving is not None and gain < arriving**2:
        if entering is not None and entering > _LARGE_INPUT:
            cause = f"the input has a root mean square of {entering:.2g}"
            return cause, "normalise the input to a mean of 0 and a variance of 1"
        cause = f"the signal that arrives there has a root mean square of {arriving:.2g}"
        return cause, "normalise it, or begin with torch_init.zeros_(weight) there"
    cause = "the last layer's weights are large"
    if gain is not None:
        cause += f": their variance is {gain:.2g} / fan_in"
    return cause, "begin with torch_init.zeros_(weight) or torch_init.lecun_normal_(weight) there"


def _input_size(row: Row) -> float | None:
    """The root mean square of a layer's input, from that of its output; without its bias."""
    return row.rms / math.sqrt(row.weight_gain) if row.weight_gain else None
