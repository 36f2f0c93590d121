# SPDX-License-Identifier: Apache-2.0
"""Units of real values: Gaussian and noisy rectified linear."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from torch_init import _ops
from torch_init.errors import check_finite, describe
from torch_init.rbm._dilogarithm import softplus_integral
from torch_init.rbm.units.base import Draw, Units, range_problem


@dataclass(frozen=True)
class Gaussian(Units):
    """Real states: N(field, variance), with the energy (x - b)^2 / (2 variance).

    The weights multiply x / variance (Cho, Ilin, Raiko 2011), so that the mean given the other
    layer is b + I whatever the variance, and a learned variance stays positive through its log.

    Args:
        size: number of units.
        variance: of each unit, at the start if it is learned.
        learn_variance: learn one log-variance for each unit, kept within [-8, 8].

    Example:
        >>> Gaussian(64, learn_variance=True)
        Gaussian(size=64, variance=1.0, learn_variance=True)
    """

    variance: float = 1.0
    learn_variance: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if check_finite("Gaussian", "variance", self.variance) <= 0:
            fix = "The standard deviation is its square root"
            raise ValueError(describe("Gaussian", "variance", self.variance, "a number > 0", fix))

    def statistic(self, state: Tensor, log_variance: Tensor | None) -> Tensor:
        return state if log_variance is None else state * torch.exp(-log_variance)

    def energy(self, state: Tensor, bias: Tensor, log_variance: Tensor | None) -> Tensor:
        return 0.5 * self.statistic((state - bias) ** 2, log_variance).sum(-1)

    def log_partition(self, field: Tensor, bias: Tensor, log_variance: Tensor | None) -> Tensor:
        volume = math.log(2 * math.pi) + (0.0 if log_variance is None else log_variance)
        return 0.5 * (volume + self.statistic(field**2 - bias**2, log_variance)).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return field

    def sample(
        self, field: Tensor, log_variance: Tensor | None, draw: Draw, beta: Tensor | float = 1.0
    ) -> Tensor:
        # A number is looked at without waiting for the device.
        if not (bool((beta > 0).all()) if isinstance(beta, Tensor) else beta > 0):
            expected = "numbers > 0 with Gaussian units, which have no law at others"
            raise ValueError(describe("gibbs", "beta", f"{beta}", expected))
        noise = _ops.sample_gaussian(torch.zeros_like(field), **draw.words)
        noise = noise / (beta.to(field) if isinstance(beta, Tensor) else beta) ** 0.5
        return field + (noise if log_variance is None else noise * torch.exp(0.5 * log_variance))


@dataclass(frozen=True)
class NReLU(Units):
    """Noisy rectified linear units (Nair & Hinton 2010): max(0, x + N(0, sigmoid(x))).

    They stand for infinitely many binary copies with biases -0.5, -1.5, ...; log_partition is the
    integral that replaces the copies' sum, -Li2(-e^x), whose slope softplus(x) is their mean. The
    sampler is the paper's approximation: no joint law of (v, h) is exactly invariant under it.

    Example:
        >>> NReLU(3).mean(torch.tensor([-1.0, 0.0, 2.0]))
        tensor([0.3133, 0.6931, 2.1269])
    """

    def energy(self, state: Tensor, bias: Tensor, log_variance: Tensor | None) -> Tensor:
        fix = "free_energy is defined: the copies are summed out"
        expected = "units whose state has an energy"
        raise TypeError(describe("rbm.energy", "units", "NReLU", expected, fix))

    def log_partition(self, field: Tensor, bias: Tensor, log_variance: Tensor | None) -> Tensor:
        return softplus_integral(field).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return functional.softplus(field, threshold=50.0)

    def sample(
        self, field: Tensor, log_variance: Tensor | None, draw: Draw, beta: Tensor | float = 1.0
    ) -> Tensor:
        return _ops.sample_nrelu(field * beta, **draw.words).to(field.dtype)

    def problem(self, data: Tensor) -> str | None:
        return range_problem(data, 0.0, math.inf)
