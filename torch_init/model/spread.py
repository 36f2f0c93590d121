# SPDX-License-Identifier: Apache-2.0
"""The spread of a layer's output, of which every rank sees a part."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """What tells the spread of some elements: moments about their own mean, which do not cancel."""

    n: int
    """How many elements they are."""
    mean: complex
    squares: float
    """The sum of \\|element - mean\\|^2."""

    @property
    def std(self) -> float:
        """The standard deviation (of all elements, not of a sample); NaN if there is none."""
        return math.sqrt(self.squares / self.n) if self.n else math.nan


def moments(output: Tensor) -> Moments:
    """Return the moments of what this rank holds of output, taken in float32 at least."""
    local = output.to_local() if hasattr(output, "to_local") else output
    n = local.numel()
    if n == 0:
        return Moments(0, 0.0, 0.0)
    wide = local.detach().to(torch.promote_types(local.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, correction=0)
    return Moments(n, mean.item(), variance.item() * n)


def combine(parts: Iterable[Moments]) -> Moments:
    """Return the moments of all parts' elements together.

    Chan, Golub & LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample
    variances", equation 2.1.
    """
    whole = Moments(0, 0.0, 0.0)
    for part in parts:
        n = whole.n + part.n
        if n == 0:
            continue
        distance = part.mean - whole.mean
        share = part.n / n
        between = abs(distance) ** 2 * whole.n * share
        mean = whole.mean + distance * share
        whole = Moments(n, mean, whole.squares + part.squares + between)
    return whole
