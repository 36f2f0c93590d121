# SPDX-License-Identifier: Apache-2.0
"""Chains: where their noise comes from, and half-steps in exact integers.

The noise of unit j of chain c at step t is a pure function of (seed, name, side, t, c, j): not of
the batch it is drawn in, the number of threads or processes, or the device.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from torch_init import _ops
from torch_init.distributions import Distribution
from torch_init.keys import part_name
from torch_init.rbm.betas import UnitBeta
from torch_init.rbm.units import Spin, Units

_CHAINS = 2**40  # more than anybody runs; the index of a word is chain * columns + column


_SIDES = {"h": "hidden", "v": "visible"}


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

    def at(self, side: str, step: int, like: Tensor) -> "HalfStep":
        """Return the noise of a half-step for as many chains as like has rows."""
        return HalfStep(self, side, step, like)

    def words(self, step: int) -> dict[str, Any]:
        """What names a step's words to the engine."""
        where = {"first_chain": self.first_chain, "step": step}
        return {"seed": self.seed, "name": self.name, **where}

    def from_chain(self, first: int) -> "Noise":
        """Return the noise of the chains from `first` on."""
        return replace(self, first_chain=self.first_chain + first)


@dataclass(frozen=True, eq=False)
class HalfStep:
    """The noise of one half-step; its side is "h", "v", or a name of another's choice."""

    noise: Noise
    side: str
    step: int
    like: Tensor

    @property
    def words(self) -> dict[str, Any]:
        """What names the units' words to the engine: those of an exact chain's side."""
        words = self.noise.words(self.step)
        if self.side in _SIDES:
            return words | {"side": _SIDES[self.side]}
        return words | {"name": part_name(self.noise.name, self.side), "side": "visible"}

    def __call__(self, distribution: Distribution, columns: int) -> Tensor:
        """Return (chains, columns) independent draws."""
        like, chains = self.like, len(self.like)
        return self.noise.draw(distribution, chains, columns, self.side, self.step, like)


class IntegerMachine:
    """A machine of binary units whose chains run in exact integers, natively.

    docs/gibbs.md specifies every bit, which are the same on every device.

    Args:
        weight: (hidden, visible), finite.
        visible_bias, hidden_bias: (visible,) and (hidden,).
        visible, hidden: Bernoulli or Spin.
        spent: a machine of the same size that is no longer needed, whose memory is used again.
        check: False: do not wait for a GPU to say whether the parameters are finite. If they are
            not, the machine there is one whose parameters are 0.

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
        check: bool = True,
    ) -> None:
        self._of = {"v": visible, "h": hidden}
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
            check,
        )

    def sample(
        self, side: str, other: Tensor, noise: Noise, step: int, beta: Tensor | float = 1.0
    ) -> Tensor:
        """Return the states of side "v" or "h", drawn given the other side's."""
        if side == "h":
            drawn, _ = self.hidden(to_bytes(self._of["v"], other), noise, step, beta=beta)
        else:
            words = noise.words(step)
            drawn = _ops.sample_visible(
                self._weights,
                to_bytes(self._of["h"], other),
                beta=beta,
                units=self._units,
                **words,
            )
        return self.states(side, drawn)

    def run(
        self,
        visible: Tensor,
        noise: Noise,
        first_step: int,
        sweeps: int,
        beta: Tensor | float = 1.0,
        clamp: Tensor | None = None,
        unit_beta: UnitBeta = (None, None),
    ) -> tuple[Tensor, Tensor]:
        """Run sweeps from visible states in one native call, and return (v, h).

        Args:
            clamp: (visible,), true where units keep their states.
        """
        v, h = _ops.gibbs(
            self._weights,
            to_bytes(self._of["v"], visible),
            None,
            seed=noise.seed,
            name=noise.name,
            first_chain=noise.first_chain,
            first_step=first_step,
            sweeps=sweeps,
            beta=beta,
            unit_beta=unit_beta,
            units=self._units,
            clamp=None if clamp is None else clamp.contiguous(),
        )
        return self.states("v", v), self.states("h", h)

    def hidden(
        self,
        visible: Tensor,
        noise: Noise,
        step: int,
        levels: int = 1,
        beta: Tensor | float = 1.0,
        means: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return h drawn given v, uint8, and its means in fixed point, int16, if wanted.

        Args:
            visible: (N, visible) bytes, as to_levels returns them.
        """
        out = self._means(visible) if means else None
        how: dict[str, Any] = {"beta": beta, "units": self._units, "levels": levels}
        words = noise.words(step)
        return _ops.sample_hidden(self._weights, visible, means=out, **words, **how), out

    def sample_levels(
        self, units: Units, visible: Tensor, noise: Noise, step: int, beta: Tensor | float
    ) -> tuple[Tensor | None, Tensor]:
        """Return h drawn given levels of visible units, and of which rows it is that, (N,) bool.

        None if it is that of no row.
        """
        levels, exact = to_levels(units, visible)
        if not self._spin["v"]:
            betas = torch.as_tensor(beta, dtype=torch.float64, device=visible.device)
            exact = exact & (betas <= 1)
        if not bool(exact.any()):
            return None, exact
        if self._spin["v"]:
            drawn, _ = self.hidden(levels, noise, step, beta=beta)
        else:
            least = betas.clamp(max=1) if isinstance(beta, Tensor) else min(float(beta), 1.0)
            drawn, _ = self.hidden(levels, noise, step, _ops.GREY_LEVELS, least)
        return self.states("h", drawn), exact

    def hidden_means(self, visible: Tensor, levels: int = 1) -> Tensor:
        """Return the means of h given v, int16."""
        return _ops.hidden_means(self._weights, visible, units=self._units, levels=levels)

    def sweep(
        self, hidden: Tensor, noise: Noise, first_step: int, sweeps: int, means: bool, only: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Run sweeps from hidden bytes, in place; return (v, h, the means of h if wanted).

        Args:
            only: the last half-step gives means and draws no h.
        """
        out = self._means(hidden) if means else None
        visible, hidden = _ops.gibbs(
            self._weights,
            None,
            hidden,
            seed=noise.seed,
            name=noise.name,
            first_chain=noise.first_chain,
            first_step=first_step,
            sweeps=sweeps,
            start="hidden",
            units=self._units,
            means=out,
            means_only=only,
        )
        return visible, hidden, out

    def _means(self, rows: Tensor) -> Tensor:
        return torch.empty(len(rows), self._weights.hidden, dtype=torch.int16, device=rows.device)

    def states(self, side: str, bytes_: Tensor) -> Tensor:
        """Return bytes as states of side "v" or "h"."""
        states = bytes_.to(self._device, self._dtype)
        return states.mul_(2).sub_(1) if self._spin[side] else states

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
            visible=None if visible is None else to_bytes(self._of["v"], visible),
            units=self._units,
        )
        return log_weights.to(self._device)


def _kind(units: Units) -> str:
    return "spin" if isinstance(units, Spin) else "bernoulli"


def to_bytes(units: Units, states: Tensor) -> Tensor:
    """Return states as bytes, 0 or 1; bytes as they are."""
    if states.dtype == torch.uint8:
        return states.contiguous()
    # A cast to bool is several times as fast as a comparison; only a spin's -1 needs one.
    on = states > 0 if isinstance(units, Spin) else states.bool()
    return on.contiguous().view(torch.uint8)


def state_bytes(units: Units, rows: Tensor) -> Tensor | None:
    """Return rows as bytes, or None unless all of them are states of binary units."""
    if units.binary and rows.is_cpu and rows.dtype == torch.float32:
        return _ops.state_bytes(rows, -1.0 if isinstance(units, Spin) else 0.0)
    return to_bytes(units, rows) if units.are_states(rows) else None


def to_levels(units: Units, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows as levels of 255, uint8, and which of the rows they are exactly, (N,) bool.

    Levels stand for u / 255: states of Bernoulli units are 0 and 255. Of spins only states are
    exact, and their bytes 0 and 1.
    """
    if isinstance(units, Spin):
        return to_bytes(units, rows), (rows.abs() == 1).all(1)
    rows = rows.float()
    levels = (rows * _ops.GREY_LEVELS).round()
    exact = (levels / _ops.GREY_LEVELS == rows).all(1)
    return levels.to(torch.uint8), exact
