# SPDX-License-Identifier: Apache-2.0
"""Gaussian moments of elementwise functions: what mean-field theory needs of a nonlinearity.

For a pre-activation s ~ N(mean, variance), computed on a fixed grid in float64:

    E f(s),    E f(s)^2    (the signal after it)    and    E f'(s)^2    (the factor of the gradient)

(Poole et al. 2016, eq. 3; Schoenholz et al. 2017, eq. 9.) The functions are torch's own, with the
arguments that the model gave them, and so are the derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Function = Callable[[Tensor], Tensor]

# Even, so that no point lies at 0, where ReLU's slope jumps; dense, so that steep functions are
# still resolved.
_POINTS = 20000
_REACH = 10.0


class GaussianMoments(NamedTuple):
    """Of f(s): mean and mean square; of f'(s): mean square."""

    mean: float
    square: float
    slope_square: float


def gaussian_moments(function: Function, mean: float, variance: float) -> GaussianMoments:
    """Return E f(s), E f(s)^2 and E f'(s)^2 for s ~ N(mean, variance).

    Example:
        >>> q = gaussian_moments(torch.relu, 0.0, 2.0)
        >>> round(q.square, 6), round(q.slope_square, 6)
        (1.0, 0.5)
    """
    z = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64, device="cpu")
    weight = torch.exp(-z.square() / 2)
    weight /= weight.sum()
    with torch.enable_grad():
        s = (mean + math.sqrt(variance) * z).requires_grad_()
        value = function(s)
        (slope,) = torch.autograd.grad(value.sum(), s, allow_unused=True)
    value = value.detach()
    slope = torch.zeros_like(value) if slope is None else slope
    return GaussianMoments(
        float((weight * value).sum()),
        float((weight * value.square()).sum()),
        float((weight * slope.square()).sum()),
    )


def _elu(x: Tensor, a: Mapping[str, Any]) -> Tensor:
    return torch.where(
        x > 0, x * a["scale"], a["alpha"] * a["scale"] * torch.expm1(x * a["input_scale"])
    )


_FUNCTIONS: dict[str, tuple[str, Callable[[Tensor, Mapping[str, Any]], Tensor]]] = {
    "Relu": ("relu", lambda x, a: torch.relu(x)),
    "Sigmoid": ("sigmoid", lambda x, a: torch.sigmoid(x)),
    "Tanh": ("tanh", lambda x, a: torch.tanh(x)),
    "Gelu": ("gelu", lambda x, a: functional.gelu(x, approximate=a["approximate"])),
    "Silu": ("silu", lambda x, a: functional.silu(x)),
    "Mish": ("mish", lambda x, a: functional.mish(x)),
    "Elu": ("elu", _elu),
    "Celu": ("celu", lambda x, a: functional.celu(x, a["alpha"])),
    "LeakyRelu": ("leaky_relu", lambda x, a: functional.leaky_relu(x, a["negative_slope"])),
    "Hardtanh": ("hardtanh", lambda x, a: torch.clamp(x, a["min_val"], a["max_val"])),
    "Softplus": ("softplus", lambda x, a: functional.softplus(x, a["beta"], a["threshold"])),
    "Hardsigmoid": ("hardsigmoid", lambda x, a: functional.hardsigmoid(x)),
    "Hardswish": ("hardswish", lambda x, a: functional.hardswish(x)),
    "LogSigmoid": ("logsigmoid", lambda x, a: functional.logsigmoid(x)),
    "Threshold": ("threshold", lambda x, a: torch.where(x > a["threshold"], x, 0.0)),
    "Sin": ("sin", lambda x, a: torch.sin(x)),
    "Cos": ("cos", lambda x, a: torch.cos(x)),
}
ELEMENTWISE = frozenset(_FUNCTIONS)
"""How autograd's nodes name them."""
ATTRIBUTES = (
    "approximate", "alpha", "scale", "input_scale", "negative_slope", "min_val", "max_val", "beta",
    "threshold",
)  # fmt: skip
"""What the functions are told by autograd's nodes."""


def from_autograd(op: str, attributes: Mapping[str, Any]) -> tuple[str, Function] | None:
    """Return name and function of the nonlinearity whose autograd node is called op; or None."""
    if op not in _FUNCTIONS:
        return None
    name, function = _FUNCTIONS[op]
    if name == "elu" and attributes.get("scale", 1.0) != 1.0:
        name = "selu"
    return name, lambda x: function(x, attributes)
