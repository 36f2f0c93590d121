# SPDX-License-Identifier: Apache-2.0
"""Kinds of units: what a layer's states are, their energy, their law given the other layer.

A layer with biases b that receives the input I from the other layer has the *field* b + I. Every
kind answers the same questions of the field; machine.py knows nothing else about them.
"""

import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from torch_init import _ops
from torch_init.distributions import Distribution
from torch_init.errors import check_finite, check_positive_int, describe
from torch_init.rbm._dilogarithm import softplus_integral


class Draw(Protocol):
    """Where the noise of a half-step comes from, one row for each chain."""

    @property
    def words(self) -> dict[str, Any]:
        """What names the units' words to the engine's samplers."""

    def __call__(self, distribution: Distribution, columns: int) -> Tensor:
        """Return independent noise that no unit is sampled with."""


@dataclass(frozen=True)
class Units(ABC):
    """A layer of `size` units of one kind.

    `log_variance` below is that of Gaussian units, and unused by the others. States and fields
    have shape (..., size); sums are over the last dimension.
    """

    size: int

    def __post_init__(self) -> None:
        check_positive_int(type(self).__name__, "size", self.size)

    @property
    def binary(self) -> bool:
        """Whether a state has two values, so that the exact integer path can sample it."""
        return False

    def statistic(self, state: Tensor, log_variance: Tensor | None) -> Tensor:
        """What the weights multiply: the state, or state / variance of Gaussian units."""
        return state

    def energy(self, state: Tensor, bias: Tensor, log_variance: Tensor | None) -> Tensor:
        """The part of the energy that is the layer's own, shape (...)."""
        return -(state * bias).sum(-1)

    @abstractmethod
    def log_partition(self, field: Tensor, bias: Tensor, log_variance: Tensor | None) -> Tensor:
        """log of the sum over states of exp(I . statistic - own energy), shape (...)."""

    @abstractmethod
    def mean(self, field: Tensor) -> Tensor:
        """Mean state, or its activation, given the field."""

    @abstractmethod
    def sample(
        self, field: Tensor, log_variance: Tensor | None, draw: Draw, beta: Tensor | float = 1.0
    ) -> Tensor:
        """A state drawn at inverse temperature beta: a number, or (N, 1) for N chains.

        The engine's samplers read fields, (N, size), as float32 (docs/gibbs.md, section 7).
        """

    def states(self) -> Tensor:
        """Every state, (number, size), float64.

        Raises:
            TypeError: the units have no finite number of states.
        """
        fix = "Use ais() or reverse_ais() instead of enumeration"
        expected = "units with finitely many states"
        raise TypeError(describe("rbm", "units", type(self).__name__, expected, fix))

    @property
    def num_states(self) -> float:
        """How many states the layer has; infinite for real-valued units, and beyond a float."""
        return math.inf

    def are_states(self, data: Tensor) -> bool:
        """Whether data are states of binary units, and not means of them."""
        return False

    def problem(self, data: Tensor) -> str | None:
        """What is wrong with finite data as states of these units; None if nothing is."""
        return None


@dataclass(frozen=True)
class Bernoulli(Units):
    """States 0 and 1: p(1) = sigmoid(field). Data in [0, 1] are probabilities of 1.

    Example:
        >>> Bernoulli(2).mean(torch.tensor([0.0, 500.0]))
        tensor([0.5000, 1.0000])
    """

    binary = True

    def log_partition(self, field: Tensor, bias: Tensor, log_variance: Tensor | None) -> Tensor:
        return functional.softplus(field, threshold=50.0).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return torch.sigmoid(field)

    def sample(
        self, field: Tensor, log_variance: Tensor | None, draw: Draw, beta: Tensor | float = 1.0
    ) -> Tensor:
        return _ops.sample_bernoulli(field * beta, **draw.words).to(field.dtype)

    def states(self) -> Tensor:
        return _binary_states(self.size)

    @property
    def num_states(self) -> float:
        return _power(2, self.size)

    def are_states(self, data: Tensor) -> bool:
        # Few rows at a time: new memory takes longer to get than to fill.
        return all(torch.equal(part, part.bool().to(part.dtype)) for part in data.split(256))

    def problem(self, data: Tensor) -> str | None:
        return _outside(data, 0.0, 1.0)


@dataclass(frozen=True)
class Spin(Units):
    """States -1 and +1: p(+1) = sigmoid(2 field), mean tanh(field).

    Example:
        >>> Spin(1).mean(torch.tensor([0.0]))
        tensor([0.])
    """

    binary = True

    def log_partition(self, field: Tensor, bias: Tensor, log_variance: Tensor | None) -> Tensor:
        size = field.abs()
        return (size + torch.log1p(torch.exp(-2 * size))).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return torch.tanh(field)

    def sample(
        self, field: Tensor, log_variance: Tensor | None, draw: Draw, beta: Tensor | float = 1.0
    ) -> Tensor:
        up = _ops.sample_bernoulli(2 * field * beta, **draw.words)
        return up.to(field.dtype).mul_(2).sub_(1)

    def states(self) -> Tensor:
        return 2 * _binary_states(self.size) - 1

    @property
    def num_states(self) -> float:
        return _power(2, self.size)

    def are_states(self, data: Tensor) -> bool:
        return bool((data.abs() == 1).all())

    def problem(self, data: Tensor) -> str | None:
        return _outside(data, -1.0, 1.0)


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
        beta = torch.as_tensor(beta, dtype=field.dtype, device=field.device)
        if not bool((beta > 0).all()):
            expected = "numbers > 0 with Gaussian units, which have no law at others"
            raise ValueError(describe("gibbs", "beta", f"{beta}", expected))
        noise = _ops.sample_gaussian(torch.zeros_like(field), **draw.words) / beta**0.5
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
        return _outside(data, 0.0, math.inf)


@dataclass(frozen=True)
class Softmax(Units):
    """Groups of units of which exactly one is 1 (softmax, multinomial or Potts units).

    Args:
        size: number of units, a multiple of `categories`; unit g * categories + k is category k
            of group g.
        categories: how many values a group has.

    Example:
        >>> Softmax(6, categories=3).states().shape      # 2 groups, 3 x 3 states
        torch.Size([9, 6])
    """

    categories: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive_int("Softmax", "categories", self.categories)
        if self.size % self.categories:
            expected = f"a multiple of categories={self.categories}"
            raise ValueError(describe("Softmax", "size", self.size, expected))

    @property
    def groups(self) -> int:
        """Number of groups."""
        return self.size // self.categories

    def _grouped(self, tensor: Tensor) -> Tensor:
        return tensor.unflatten(-1, (self.groups, self.categories))

    def log_partition(self, field: Tensor, bias: Tensor, log_variance: Tensor | None) -> Tensor:
        return torch.logsumexp(self._grouped(field), -1).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        return torch.softmax(self._grouped(field), -1).flatten(-2)

    def sample(
        self, field: Tensor, log_variance: Tensor | None, draw: Draw, beta: Tensor | float = 1.0
    ) -> Tensor:
        states = _ops.sample_softmax(self._grouped(field * beta), **draw.words)
        return states.to(field.dtype).flatten(-2)

    def states(self) -> Tensor:
        one = torch.eye(self.categories, dtype=torch.float64, device="cpu")
        every = itertools.product(range(self.categories), repeat=self.groups)
        return torch.stack([one[list(choice)].flatten() for choice in every])

    @property
    def num_states(self) -> float:
        return _power(self.categories, self.groups)

    def problem(self, data: Tensor) -> str | None:
        found = _outside(data, 0.0, 1.0)
        sums = self._grouped(data).sum(-1)
        if found is None and not torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            return "groups whose values do not add up to 1"
        return found


def as_units(function: str, argument: str, units: int | Units) -> Units:
    """Return units; an int stands for so many Bernoulli units."""
    if isinstance(units, Units):
        return units
    return Bernoulli(check_positive_int(function, argument, units))


def _power(base: int, exponent: int) -> float:
    try:
        return float(base) ** exponent
    except OverflowError:
        return math.inf


def _binary_states(size: int) -> Tensor:
    numbers = torch.arange(2**size, device="cpu").unsqueeze(1)
    return ((numbers >> torch.arange(size, device="cpu")) & 1).to(torch.float64)


def _outside(data: Tensor, low: float, high: float) -> str | None:
    if data.numel() == 0:
        return None
    least, most = float(data.min()), float(data.max())
    return None if low <= least and most <= high else f"values in [{least:g}, {most:g}]"
