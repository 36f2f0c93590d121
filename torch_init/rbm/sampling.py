# SPDX-License-Identifier: Apache-2.0
"""Chains: where their noise comes from, and half-steps in exact integers.

The noise of unit j of chain c at step t is a pure function of (seed, name, side, t, c, j): not of
the batch it is drawn in, the number of threads or processes, or the device.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torch_init import _ops
from torch_init.distributions import Distribution
from torch_init.keys import part_name
from torch_init.rbm.units import Draw, Spin, Units

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


class IntegerMachine:
    """A machine of binary units whose chains run in exact integers, natively.

    docs/gibbs.md specifies every bit, which are the same on every device.

    Args:
        weight: (hidden, visible), finite.
        visible_bias, hidden_bias: (visible,) and (hidden,).
        visible, hidden: Bernoulli or Spin.
        spent: a machine of the same size that is no longer needed, whose memory is used again.

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
        spent: "IntegerMachine | None" = None,
    ) -> None:
        self._spin = {"v": isinstance(visible, Spin), "h": isinstance(hidden, Spin)}
        self._units = (_kind(visible), _kind(hidden))
        self._dtype, self._device = weight.dtype, weight.device
        wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
        self._weights: _ops.GibbsWeights = _ops.quantize(
            weight.detach().T.to(wide),
            visible_bias.detach(),
            hidden_bias.detach(),
            "rbm",
            None if spent is None else spent._weights,
        )

    def sample(
        self, side: str, other: Tensor, noise: Noise, step: int, beta: Tensor | float = 1.0
    ) -> Tensor:
        """Return the states of side "v" or "h", drawn given the other side's."""
        half_step = _ops.sample_hidden if side == "h" else _ops.sample_visible
        drawn = half_step(
            self._weights,
            _to_bytes(other),
            seed=noise.seed,
            name=noise.name,
            first_chain=noise.first_chain,
            step=step,
            beta=beta,
            units=self._units,
        )
        return self._from_bytes(side, drawn)

    def run(
        self,
        visible: Tensor | None,
        hidden: Tensor | None,
        noise: Noise,
        first_step: int,
        sweeps: int,
        beta: Tensor | float = 1.0,
        clamp: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run sweeps in one native call, from the side that is given, and return (v, h).

        Args:
            clamp: (visible,), true where units keep their states.
        """
        bytes_v = None if visible is None else _to_bytes(visible)
        bytes_h = None if hidden is None else _to_bytes(hidden)
        bytes_v, bytes_h = _ops.gibbs(
            self._weights,
            bytes_v,
            bytes_h,
            seed=noise.seed,
            name=noise.name,
            first_chain=noise.first_chain,
            first_step=first_step,
            sweeps=sweeps,
            beta=beta,
            start="hidden" if visible is None else "visible",
            units=self._units,
            clamp=None if clamp is None else clamp.contiguous(),
        )
        return self._from_bytes("v", bytes_v), self._from_bytes("h", bytes_h)

    def anneal(
        self,
        betas: Tensor,
        base: Tensor,
        noise: Noise,
        chains: int | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:
        """Return the log-weights, (chains,), of one native run of annealed importance sampling.

        Args:
            betas: rising from 0 to 1 with chains=, falling with the states visible=.
            base: (visible,), the base machine's biases.
        """
        log_weights, _ = _ops.ais_run(
            self._weights,
            betas,
            base,
            seed=noise.seed,
            name=noise.name,
            chains=chains,
            visible=None if visible is None else _to_bytes(visible),
            units=self._units,
        )
        return log_weights.to(self._device)

    def _from_bytes(self, side: str, states: Tensor) -> Tensor:
        states = states.to(self._device, self._dtype)
        return states.mul_(2).sub_(1) if self._spin[side] else states


def _kind(units: Units) -> str:
    return "spin" if isinstance(units, Spin) else "bernoulli"


def _to_bytes(states: Tensor) -> Tensor:
    return (states > 0).to(torch.uint8).contiguous()


def integer_pairs(rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows^T columns of states 0 and 1, added up in integers, in the rows' dtype."""
    pairs = _ops.statistics(_to_bytes(rows), _to_bytes(columns)).pairs
    return pairs.to(rows.device, rows.dtype)
