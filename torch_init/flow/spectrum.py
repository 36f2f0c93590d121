# SPDX-License-Identifier: Apache-2.0
"""Whether a weight looks trained: by its largest singular value, read only when that decides.

Independent zero-mean elements of mean square w have a largest singular value near
sqrt(w) (sqrt(rows) + sqrt(columns)), the edge of Marchenko and Pastur's law. Training puts singular
values beyond it: directions that the data have in common.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ITERATIONS = 6


def largest_spike(weight: Tensor) -> float | None:
    """Return the largest singular value over the edge, from below; None of what is no matrix.

    weight: (rows, ...), whose further dimensions are one. Reads it 14 times, 12 of them in
    products, and waits for the result.

    Example:
        >>> weight = torch_init.he_(torch.empty(256, 256), seed=0, name="weight")
        >>> round(largest_spike(weight), 1)
        0.9
    """
    if weight.dim() < 2 or weight.numel() == 0 or not weight.is_floating_point():
        return None
    matrix = weight.detach().flatten(1)
    matrix = matrix if matrix.dtype == torch.float64 else matrix.float()
    rows, columns = matrix.shape
    edge = matrix.square().mean().sqrt() * (math.sqrt(rows) + math.sqrt(columns))
    # A start without structure, the same each time.
    place = torch.arange(columns, dtype=torch.float64, device=matrix.device)
    v = (0.7 * place.square()).sin().to(matrix.dtype)
    for _ in range(_ITERATIONS):
        v = matrix.T @ (matrix @ (v / v.norm().clamp_min(1e-30)))
    return float(v.norm().sqrt() / edge.clamp_min(1e-30))
