# SPDX-License-Identifier: Apache-2.0
"""The integral of softplus, which is the log-partition function of a rectified linear unit."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def softplus_integral(x: Tensor) -> Tensor:
    """Return -Li2(-e^x), the integral of softplus from -inf to x. Differentiable, stable."""
    integral: Tensor = _SoftplusIntegral.apply(x)
    return integral


class _SoftplusIntegral(torch.autograd.Function):
    """-Li2(-e^x), the integral of softplus from -inf to x."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        # Inversion: -Li2(-e^x) = x^2 / 2 + pi^2 / 6 + Li2(-e^-x), for x > 0.
        low = _minus_dilog(-x.abs())
        return torch.where(x > 0, 0.5 * x * x + math.pi**2 / 6 - low, low)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, slope: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return slope * functional.softplus(x, threshold=50.0)


def _minus_dilog(x: Tensor) -> Tensor:
    """-Li2(-e^x) of x <= 0, by u = log(1 + e^x): the series in Bernoulli numbers converges fast."""
    u = torch.log1p(torch.exp(x))
    # Li2(1 - e^-w) with w = -u is the sum of B_n w^(n+1) / (n+1)!, B_1 = -1/2.
    square = u * u
    total = torch.zeros_like(u)
    for numerator, denominator in reversed(_DEBYE):
        total = total * square + numerator / denominator
    return u + square / 4 + u * square * total


# B_2k / (2k+1)!: 1/36, -1/3600, 1/211680, ...
_DEBYE = [
    (1.0, 36.0),
    (-1.0, 3600.0),
    (1.0, 211680.0),
    (-1.0, 10886400.0),
    (1.0, 526901760.0),
    (-691.0, 2730.0 * math.factorial(13)),
    (7.0, 6.0 * math.factorial(15)),
    (-3617.0, 510.0 * math.factorial(17)),
    (43867.0, 798.0 * math.factorial(19)),
]
