# SPDX-License-Identifier: Apache-2.0
"""When a verdict is given. Ratios and shares only: the size of the loss changes none of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch_init.errors import check_finite, describe

KINDS = (
    "non_finite",
    "no_data",
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
    """Limits of the verdicts.

    Args:
        vanish_total, vanish_slope: vanishing needs both: last over first layer below this ratio,
            and a slope of log10 per layer below this.
        explode_total, explode_slope: likewise, above.
        saturated: share of a layer's units whose slope is under 2 % of its largest.
        dead: share of a layer's units that are never positive.
        batch_collapse: standard deviation over the batch over that of all elements.
        symmetric: relative difference between a layer's units below which they are identical.
        underflow: share of subnormal numbers among a half-precision gradient's non-zeros.
        update_too_large: root mean square of a step's update over that of the weights.
        update_spread: factor by which a layer's update-to-weight ratio may be below the median
            of all layers.
        mismatch: factor by which a layer's signal may leave what its weights should give, besides
            the scatter of a finite width.
        initial_loss: nats by which the first cross-entropy may be above a guess's.

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
    initial_loss: float = 1.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = check_finite("Thresholds", field.name, getattr(self, field.name))
            is_slope = field.name == "vanish_slope"
            if (value >= 0) if is_slope else (value <= 0):
                expected = "a number < 0" if is_slope else "a number > 0"
                raise ValueError(describe("Thresholds", field.name, f"{value}", expected))
