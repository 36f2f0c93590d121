# SPDX-License-Identifier: Apache-2.0
"""What a report is made of: one row for each tensor, one for each parameter, fits over depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

HALF = ("float16", "bfloat16")


@dataclass
class Row:
    """One output of one module: its signal forward, the gradient with respect to it backward.

    Shares are of elements; statistics are over everything measured in the window; a number that
    was not measured is NaN, or None where it does not apply.

    Attributes:
        layer: name; "name#1" for a second call, "name:out[0]" for a part of the output.
        role: weighted, activation, norm, embedding, recurrent, block or other.
        calls, backward_calls: how often it was seen forward and backward.
        mean, std, rms, absmax, zeros, saturated, nonfinite: of the signal.
        batch_std: root mean square, over features, of the standard deviation over the batch.
        unit_spread: how far units of the layer differ from each other, relative; 0: identical.
        dead: share of units that were not positive once; for rectifiers and what feeds them.
        expected_dead: what independent weights give, from how alike the batch's examples are here.
        gradient_rms, gradient_norm, gradient_absmax, gradient_zeros, gradient_nonfinite,
            gradient_subnormal: of the gradient; the norm is of the whole tensor, per firing.
        expected_rms, expected_gradient_norm: by mean-field theory; None where it has no say.
        tolerance, gradient_tolerance: factors within which a finite width leaves signal and
            gradient close to what is expected, at three standard deviations.
        nonlinearity: what a weighted layer's or norm's output goes through next.
        is_captured: whether a CUDA graph measured it, which knows no order of passes.
        weight_gain: sum of squared weights per output: fan_in times their mean square.
        never_learns: whether its weight is exactly 0 and no gradient will ever reach it; None where
            the structure is not known.
        waits: whether a weight of exactly 0 elsewhere keeps signal or gradient from it at first;
            None likewise.
        is_bypassed: whether a path goes around a weighted layer, as around a residual branch.
        weight_spike: largest singular value over that of independent weights of this size; above
            1 after training. None unless a verdict depends on it.
    """

    layer: str
    type: str
    role: str
    dtype: str
    calls: int
    backward_calls: int
    needs_grad: bool
    mean: float
    std: float
    rms: float
    absmax: float
    zeros: float
    saturated: float
    nonfinite: int
    nonfinite_order: int
    samples: int
    units: int
    batch_std: float | None
    unit_spread: float | None
    dead: float | None
    expected_dead: float | None
    gradient_rms: float
    gradient_norm: float
    gradient_absmax: float
    gradient_zeros: float
    gradient_nonfinite: int
    gradient_nonfinite_order: int
    gradient_subnormal: float
    expected_rms: float | None = None
    expected_gradient_norm: float | None = None
    is_predicted: bool = False
    tolerance: float | None = None
    gradient_tolerance: float | None = None
    nonlinearity: str = ""
    weight_gain: float | None = None
    weight_spike: float | None = None
    fan_in: int | None = None
    never_learns: bool | None = None
    waits: bool | None = None
    is_bypassed: bool = False
    histogram: list[int] | None = None
    gradient_histogram: list[int] | None = None
    is_captured: bool = False


@dataclass
class ParameterRow:
    """One parameter over the steps measured: weights, gradients, updates.

    Attributes:
        names: all of its names; a tied weight has several.
        steps: how many steps were measured; missing: in how many of them it had no gradient.
        weight_rms, update_rms: at up to 4096 of its elements.
        update_ratio: update_rms / weight_rms, per step.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    requires_grad: bool
    steps: int
    missing: int
    weight_rms: float
    gradient_rms: float
    gradient_norm: float
    gradient_nonfinite: int
    nonfinite_order: int
    update_rms: float
    update_ratio: float
    unsupported: str = ""

    @property
    def name(self) -> str:
        return self.names[0]


@dataclass(frozen=True)
class Slope:
    """A straight line through log10 of a size over the layers, from the input side on.

    Attributes:
        per_layer: log10 per layer, in the direction of flow: negative means that the signal
            shrinks on its way to the output, or the gradient on its way to the input.
        total: last over first layer in that direction, as measured.
        fit_error: root mean square distance from the line, in log10.
        first, last: the layers at its ends, input side first.
        layers: how many there are.
    """

    per_layer: float
    total: float
    fit_error: float
    first: str
    last: str
    layers: int

    @property
    def factor(self) -> float:
        """10 ** per_layer: what a layer multiplies by."""
        return 10.0**self.per_layer

    @property
    def fitted_total(self) -> float:
        """The line's own last over first."""
        return 10.0 ** (self.per_layer * (self.layers - 1))


def fit_slope(layers: Sequence[str], sizes: Sequence[float], backward: bool) -> Slope | None:
    """Fit log10 of sizes, given from the input side on; None for fewer than 2 layers or no sizes.

    A size of 0 is left out of the line, and makes a total at that end 0 or infinite.
    """
    if len(sizes) < 2 or not all(math.isfinite(size) for size in sizes):
        return None
    kept = [(place, math.log10(size)) for place, size in enumerate(sizes) if size > 0]
    if len(kept) < 2:
        return None
    places, logs = np.array(kept).T
    line = np.polynomial.Polynomial.fit(places, logs, 1).convert().coef
    line = np.concatenate([line, np.zeros(2)])[:2]
    error = float(np.sqrt(np.mean((logs - line[0] - line[1] * places) ** 2)))
    start, end = (sizes[-1], sizes[0]) if backward else (sizes[0], sizes[-1])
    total = end / start if start > 0 else math.inf
    per_layer = float(-line[1] if backward else line[1])
    return Slope(per_layer, total, error, layers[0], layers[-1], len(sizes))


def as_plain(value: Any) -> Any:
    """Return value for JSON, which has no NaN and no infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return value
