# SPDX-License-Identifier: Apache-2.0
"""What every kind of units answers: its states, their energy, their law given the other layer.

A layer with biases b that receives the input I from the other layer has the *field* b + I. Every
kind answers the same questions of the field; machine.py knows nothing else about them.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from torch_init.distributions import Distribution
from torch_init.errors import check_positive_int, describe


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
        """A state drawn at inverse temperature beta: a number, (N, 1) or (N, size).

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


def range_problem(data: Tensor, low: float, high: float) -> str | None:
    """What is wrong with data that are to be in [low, high]; None if nothing is."""
    if data.numel() == 0:
        return None
    least, most = float(data.min()), float(data.max())
    return None if low <= least and most <= high else f"values in {interval(least, most)}"


def interval(least: float, most: float) -> str:
    """The interval as text, whose ends are rounded but not to integers, as if they were in it."""
    return f"[{_number(least)}, {_number(most)}]"


def _number(value: float) -> str:
    short = f"{value:g}"
    hides_an_excess = float(short) != value and float(short).is_integer()
    return repr(value) if hides_an_excess else short
