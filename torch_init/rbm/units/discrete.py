# SPDX-License-Identifier: Apache-2.0
"""Units with finitely many states: Bernoulli, spin and softmax."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from torch_init import _ops
from torch_init.errors import check_positive_int, describe
from torch_init.rbm.units.base import Draw, Units, range_problem


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
        return range_problem(data, 0.0, 1.0)


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
        return range_problem(data, -1.0, 1.0)


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
        found = range_problem(data, 0.0, 1.0)
        sums = self._grouped(data).sum(-1)
        if found is None and not torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            return "groups whose values do not add up to 1"
        return found


def _power(base: int, exponent: int) -> float:
    try:
        return float(base) ** exponent
    except OverflowError:
        return math.inf


def _binary_states(size: int) -> Tensor:
    numbers = torch.arange(2**size, device="cpu").unsqueeze(1)
    return ((numbers >> torch.arange(size, device="cpu")) & 1).to(torch.float64)
