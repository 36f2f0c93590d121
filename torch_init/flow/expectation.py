# SPDX-License-Identifier: Apache-2.0
"""What expected() returns: predictions by layer and along the depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from torch_init.flow.report import Report
from torch_init.flow.rows import Slope, fit_slope
from torch_init.flow.text import number


@dataclass(frozen=True)
class ExpectedRow:
    """The prediction for one layer's output.

    Attributes:
        layer, type, nonlinearity: the layer, and what its output goes through next.
        weight_gain: v = sum(W^2) / outputs; 2 for He's variance, 1 for LeCun's.
        rms: of the output; None where theory has no say.
        gradient_norm: relative to that of the gradient at the model's output.
        gradient_factor: gradient_norm over that of the next layer with weights: sqrt(chi).
        tolerance, gradient_tolerance: factors within which three standard deviations of a finite
            width lie, of rms and of gradient_norm.
    """

    layer: str
    type: str
    nonlinearity: str
    weight_gain: float | None
    rms: float | None
    gradient_norm: float | None
    gradient_factor: float | None
    tolerance: float | None
    gradient_tolerance: float | None


class Expected:
    """The prediction for a model: rows, one per layer with weights, and their slopes."""

    def __init__(self, report: Report) -> None:
        weighted = report.weighted
        self.rows: list[ExpectedRow] = []
        for place, row in enumerate(weighted):
            after = weighted[place + 1] if place + 1 < len(weighted) else None
            factor = None
            if after and row.expected_gradient_norm and after.expected_gradient_norm:
                factor = row.expected_gradient_norm / after.expected_gradient_norm
            self.rows.append(
                ExpectedRow(
                    row.layer,
                    row.type,
                    row.nonlinearity,
                    row.weight_gain,
                    row.expected_rms,
                    row.expected_gradient_norm,
                    factor,
                    row.tolerance,
                    row.gradient_tolerance,
                )
            )

    def __getitem__(self, layer: str) -> ExpectedRow:
        """The row of a layer by its name."""
        for row in self.rows:
            if row.layer == layer:
                return row
        raise KeyError(layer)

    @cached_property
    def slope(self) -> Slope | None:
        """The line through the predicted gradients' log10 norms, the last layer left out."""
        return self._fit([row.gradient_norm for row in self.rows[:-1]], backward=True)

    @cached_property
    def signal_slope(self) -> Slope | None:
        """The line through the predicted signals' log10 root mean squares."""
        return self._fit([row.rms for row in self.rows[:-1]], backward=False)

    def _fit(self, sizes: list[float | None], backward: bool) -> Slope | None:
        names = [row.layer for row in self.rows[:-1]]
        return fit_slope(names, [math.nan if s is None else s for s in sizes], backward)

    def __str__(self) -> str:
        lines = [f"{'layer':24} {'next':14} {'v':>8} {'rms':>9} {'gradient':>9} {'factor':>7}"]
        for row in self.rows:
            lines.append(
                f"{row.layer:24} {row.nonlinearity:14} {number(row.weight_gain):>8} "
                f"{number(row.rms):>9} {number(row.gradient_norm):>9} "
                f"{number(row.gradient_factor):>7}"
            )
        return "\n".join(lines)
