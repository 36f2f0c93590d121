# SPDX-License-Identifier: Apache-2.0
"""Chains: where their noise comes from, and half-steps in exact integers.

The noise of unit j of chain c at step t is a pure function of (seed, name, side, t, c, j): not of
the batch it is drawn in, the number of threads or processes, or the device.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torch_init import _ops
from torch_init.distributions import Distribution, Logistic
from torch_init.errors import describe
from torch_init.keys import part_name
from torch_init.rbm.units import Draw, Spin, Units

MAX_FRACTION_BITS = 24
"""Of the weights that sample: the logistic noise itself has 24 significant bits."""

_CHAINS = 2**40  # more than anybody runs; the index of a word is chain * columns + column


@dataclass(frozen=True)
class Noise:
    """The random words of chains first_chain, first_chain + 1, ... of one name under one seed."""

    seed: int
    name: str
    first_chain: int = 0

    def draw(
        self,
        distribution: Distribution,
        chains: int,
        columns: int,
        side: str,
        step: int,
        like: Tensor,
    ) -> Tensor:
        """Return (chains, columns) independent draws for one half-step.

        float64 where like is float64, else float32: rounded to half precision, noise would repeat.
        """
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        noise = torch.empty(chains, columns, dtype=dtype, device=like.device)
        name = part_name(self.name, f"{side}{step}")
        offset, shape = (self.first_chain, 0), (_CHAINS, columns)
        if noise.numel():
            _ops.fill_box_(noise, distribution.spec(), self.seed, name, offset, shape)
        return noise

    def at(self, side: str, step: int, like: Tensor) -> Draw:
        """Return the draw function of a half-step for as many chains as like has rows."""
        chains = len(like)
        return lambda distribution, columns: self.draw(
            distribution, chains, columns, side, step, like
        )

    def from_chain(self, first: int) -> "Noise":
        """Return the noise of the chains from `first` on."""
        return replace(self, first_chain=self.first_chain + first)


class FixedPoint:
    """An RBM of binary units with parameters rounded to multiples of 2^-fraction_bits.

    The field of a unit is then a sum of at most 31-bit integers, exact and in any order the same.
    A unit is on iff that integer exceeds the logistic noise of its word. This class adds integers
    up in float64, where they are as exact.

    Args:
        weight: (hidden, visible), finite.
        visible_bias, hidden_bias: (visible,) and (hidden,).
        visible, hidden: Bernoulli or Spin.

    Raises:
        ValueError: parameters that are not finite.
    """

    def __init__(
        self,
        weight: Tensor,
        visible_bias: Tensor,
        hidden_bias: Tensor,
        visible: Units,
        hidden: Units,
    ) -> None:
        weight, visible_bias, hidden_bias = (
            parameter.detach().double() for parameter in (weight, visible_bias, hidden_bias)
        )
        if not all(p.isfinite().all() for p in (weight, visible_bias, hidden_bias)):
            fix = "If they grew in training, lower learning_rate"
            got = "values that are not finite"
            raise ValueError(describe("rbm", "parameters", got, "finite numbers", fix))
        self._units = {"v": visible, "h": hidden}
        self.fraction_bits = _fraction_bits(weight, visible_bias, hidden_bias)
        scale = 2.0**self.fraction_bits
        self._to_hidden = (weight * scale).round_()
        self._biases = {"v": (visible_bias * scale).round_(), "h": (hidden_bias * scale).round_()}

    def field(self, side: str, other: Tensor) -> Tensor:
        """Return the integer fields of a side, in float64, given the other side's states."""
        weight = self._to_hidden.T if side == "h" else self._to_hidden
        return torch.addmm(self._biases[side], other.double(), weight)

    def sample(
        self, side: str, other: Tensor, noise: Noise, step: int, beta: Tensor | float = 1.0
    ) -> Tensor:
        """Return the states of side "v" or "h", drawn given the other side's, in its dtype."""
        units = self._units[side]
        is_spin = isinstance(units, Spin)
        slope = 2.0 ** (1 - self.fraction_bits) if is_spin else 2.0**-self.fraction_bits
        single = torch.empty((), dtype=torch.float32, device=other.device)
        words = noise.draw(Logistic(0.0, 1.0), len(other), units.size, side, step, single)
        on = self.field(side, other) * (slope * beta) > words
        return (2 * on.to(other.dtype) - 1) if is_spin else on.to(other.dtype)


def _fraction_bits(weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor) -> int:
    """The most bits <= 24 that keep every sum of a row or column below 2^30."""
    size = weight.abs()
    largest = max(
        float((size.sum(1) + hidden_bias.abs()).max()),
        float((size.sum(0) + visible_bias.abs()).max()),
        2.0**-30,
    )
    exponent = int(torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent)
    return min(MAX_FRACTION_BITS, 30 - exponent)
