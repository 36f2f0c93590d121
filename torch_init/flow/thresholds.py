# SPDX-License-Identifier: Apache-2.0
"""When a verdict is given. Ratios and shares only: the size of the loss changes none of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch_init.errors import check_finite, describe

KINDS = (
    "non_finite",
    "no_data",
    "loss_mismatch",
    "no_nonlinearity",
    "zero_gradient",
    "zero_signal",
    "dead",
    "symmetric",
    "vanishing",
    "exploding",
    "saturated",
    "collapsed",
    "no_grad",
    "underflow",
    "init_mismatch",
    "initial_loss",
    "update_too_large",
    "update_too_small",
    "ok",
)
"""All kinds of verdicts, in the order in which causes come before consequences."""


@dataclass(frozen=True)
class Thresholds:
    """Limits of the verdicts, each with its reason.

    `benchmarks/flow_false_alarms.py` measures how near healthy networks come to each of them: the
    nearest of 14 small networks from five seeds each are quoted here.

    Args:
        vanish_total, vanish_slope: vanishing needs both: last over first layer below this ratio,
            and a slope of log10 per layer below this. With 1e-3 plain SGD moves one end a thousand
            times slower than the other. By chance alone a correct start of L ReLU layers of width n
            gets there beyond exp(-1.5 sqrt(5 L / n)) = 1e-3, L = 4 n, at three standard deviations
            (Hanin & Nica 2020). -0.1 is a factor of 0.79 per layer, so that no two layers of
            different sizes make a verdict. Nearest: 0.15 (three layers of torch's default).
        explode_total, explode_slope: likewise, above. Nearest: 3.8 (a ResNet).
        saturated: share of a layer's units whose slope is under 2 % of its largest. Beyond one
            half, most units learn fifty times slower than they could. Nearest: 0.009 (tanh with
            Xavier's variance).
        dead: share of a layer's units that are never positive. Independent zero-mean weights leave
            at most one half so, at any depth (measured.expected_dead); 3/4 is half way from there
            to all. Nearest: 0.39 (30 layers of ReLU, He).
        batch_collapse: standard deviation over the batch over that of all elements. At 1e-4
            float32, with 24 bits, has 10 left to tell the examples apart. Nearest: 0.064 (an LSTM).
        symmetric: relative difference between a layer's units below which they are identical:
            some hundred roundings of float32, which copies scatter by. Nearest: 0.48 (DCGAN).
        underflow: share of subnormal numbers among a half-precision gradient's non-zeros. Normal
            elements have a quarter below 0.32 standard deviations: their size is then about three
            times the smallest normal number, and the next halving loses much more.
        update_too_large: root mean square of a step's update over that of the weights: at 1 a step
            leaves as much of the step as of the weights. Nearest: 0.13, Adam's first step (GPT-2).
        update_spread: factor by which a layer's update-to-weight ratio may be below the median
            of all layers; the inverse of vanish_total. Nearest: 15 (a transformer).
        mismatch: factor by which a layer's signal may leave what its weights should give, besides
            three standard deviations of a finite width (rules_of_start.signal_jumps). A forgotten
            factor of sqrt(2), the smallest that a wrong variance gives, stays below it; one of 2
            does not. Nearest: 1.55, at an output of ten units, where 3.0 is allowed (ReLU, He).
        initial_loss: nats by which the first cross-entropy may be above a guess's, ln K; half of
            it is information. Independent logits of variance s^2 add at most s^2 / 2: 3 is s^2 = 6,
            six times that of unit logits. Nearest: 1.9 (eight layers of GELU).

    Example:
        >>> torch_init.Thresholds(saturated=0.3).saturated
        0.3
    """

    vanish_total: float = 1e-3
    vanish_slope: float = -0.1
    explode_total: float = 1e3
    explode_slope: float = 0.1
    saturated: float = 0.5
    dead: float = 0.75
    batch_collapse: float = 1e-4
    symmetric: float = 1e-5
    underflow: float = 0.25
    update_too_large: float = 1.0
    update_spread: float = 1e3
    mismatch: float = 1.5
    initial_loss: float = 3.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = check_finite("Thresholds", field.name, getattr(self, field.name))
            is_slope = field.name == "vanish_slope"
            if (value >= 0) if is_slope else (value <= 0):
                expected = "a number < 0" if is_slope else "a number > 0"
                raise ValueError(describe("Thresholds", field.name, f"{value}", expected))
