# SPDX-License-Identifier: Apache-2.0
"""The restricted Boltzmann machine and its chains."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_init import elementwise
from torch_init.errors import check_not_negative, check_place, check_positive_int, describe
from torch_init.keys import check_name, check_seed, draw_seed
from torch_init.rbm.betas import Beta, UnitBeta, as_column, check_betas, of_units
from torch_init.rbm.energy import Energy, check_finite_parameters
from torch_init.rbm.sampling import IntegerMachine, Noise
from torch_init.rbm.units import Gaussian, NReLU, Units, as_units

if TYPE_CHECKING:
    from torch_init.rbm.history import History


class RBM(Energy):
    r"""A restricted Boltzmann machine (Smolensky 1986; Hinton 2002).

    .. math:: E(v, h) = U_v(v) + U_h(h) - h^\top W s(v)

    with :math:`U = -b^\top x` and :math:`s(v) = v` (Bernoulli, spin, softmax units) or
    :math:`U = \sum (x - b)^2 / 2\sigma^2` and :math:`s(v) = v / \sigma^2` (Gaussian units).

    Parameters: ``weight`` (hidden, visible), laid out as that of nn.Linear, ``visible_bias``,
    ``hidden_bias``, and for Gaussian visible units ``log_variance`` (a buffer unless learned).
    Weights start as N(0, std^2), biases at 0; fit() sets the visible biases from the data.

    Args:
        visible, hidden: the layers' units; an int is so many Bernoulli units.
        std: of the initial weights; 0.01 by Hinton (2010), section 8.
        seed, name: of the weights' stream, ``name + ".weight"``, and of the chains of fit().
        exact: sample in exact integers, the same on every device; None: wherever all units are
            Bernoulli or spin, which is where it can.
        device, dtype: of the parameters; float32 by default.

    Raises:
        TypeError, ValueError: units or arguments that make no machine.

    Example:
        >>> rbm = torch_init.rbm.RBM(6, 4, seed=0)
        >>> v = torch.tensor([[1.0, 0, 1, 0, 1, 0]])
        >>> rbm.hidden_mean(v).shape, rbm.free_energy(v).shape
        (torch.Size([1, 4]), torch.Size([1]))
    """

    def __init__(
        self,
        visible: int | Units,
        hidden: int | Units,
        *,
        std: float = 0.01,
        seed: int = 0,
        name: str = "rbm",
        exact: bool | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.visible = as_units("RBM", "visible", visible)
        self.hidden = as_units("RBM", "hidden", hidden)
        check_name("RBM", name)
        self.seed, self.name = int(check_seed("RBM", seed)), name
        self.std = check_not_negative("RBM", "std", std)
        self._check_units()
        binary = self.visible.binary and self.hidden.binary
        if exact and not binary:
            expected = "Bernoulli or Spin units on both sides"
            raise ValueError(describe("RBM", "exact", "True with other units", expected))
        self.exact = binary if exact is None else bool(exact)
        like = torch.empty(0, device=device, dtype=_check_dtype(dtype))
        weight, visible_bias, hidden_bias = self.parameter_shapes()
        self.weight = nn.Parameter(like.new_empty(weight))
        self.visible_bias = nn.Parameter(like.new_zeros(visible_bias))
        self.hidden_bias = nn.Parameter(like.new_zeros(hidden_bias))
        self._make_log_variance(like)
        self.reset_parameters()

    def _check_units(self) -> None:
        unbounded = (Gaussian, NReLU)
        if isinstance(self.visible, NReLU):
            fix = "Scale the data to unit variance and use Gaussian visible units"
            raise ValueError(describe("RBM", "visible", "NReLU", "other units", fix))
        hidden = self.hidden
        if isinstance(hidden, Gaussian) and (hidden.learn_variance or hidden.variance != 1):
            expected = "Gaussian hidden units of variance 1"
            raise ValueError(describe("RBM", "hidden", repr(hidden), expected))
        if isinstance(self.visible, unbounded) and isinstance(hidden, Gaussian):
            fix = "Use Bernoulli, Spin or NReLU hidden units"
            expected = "units with which the machine can be normalised"
            raise ValueError(describe("RBM", "hidden", "Gaussian on Gaussian", expected, fix))

    def _make_log_variance(self, like: Tensor) -> None:
        if not isinstance(self.visible, Gaussian):
            self.register_buffer("log_variance", None)
            return
        start = like.new_full((self.visible.size,), self.visible.variance).log_()
        if self.visible.learn_variance:
            self.log_variance = nn.Parameter(start)
        else:
            self.register_buffer("log_variance", start)

    def reset_parameters(self) -> None:
        """Draw the weights anew from (seed, name) and set the biases to 0."""
        elementwise.normal_(self.weight, std=self.std, seed=self.seed, name=f"{self.name}.weight")
        elementwise.zeros_(self.visible_bias)
        elementwise.zeros_(self.hidden_bias)

    def extra_repr(self) -> str:
        return f"{self.visible}, {self.hidden}, exact={self.exact}"

    def forward(self, visible: Tensor) -> Tensor:
        """Return the hidden units' means, so that a trained RBM is a layer."""
        return self.hidden_mean(visible)

    def integers(
        self, spent: IntegerMachine | None = None, check: bool = True
    ) -> IntegerMachine | None:
        """Return the machine in integers for many half-steps, or None if it is not exact.

        Args:
            spent: one that is no longer needed, whose memory is used again.
            check: False: do not wait for a GPU to say whether the parameters are finite.
        """
        if not self.exact:
            return None
        biases = self.visible_bias, self.hidden_bias
        return IntegerMachine(self.weight, *biases, self.visible, self.hidden, spent, check)

    @torch.no_grad()
    def draw(self, side: str, field: Tensor, noise: Noise, step: int, beta: Beta = 1.0) -> Tensor:
        """Draw the states of side "h" or "v" from their fields, (N, units), in their dtype."""
        units, log_variance = self.hidden, None
        if side == "v":
            units, log_variance = self.visible, self.log_variance
        beta = as_column(beta, field)
        return units.sample(field, log_variance, noise.at(side, step, field), beta).to(field.dtype)

    @torch.no_grad()
    def sample_hidden(
        self,
        visible: Tensor,
        noise: Noise,
        step: int = 0,
        beta: Beta = 1.0,
        integers: IntegerMachine | None = None,
    ) -> Tensor:
        """Draw h given v, (N, visible), with the noise of a step.

        If integers is given, rows of states are sampled in exact integers, of Bernoulli units also
        rows of levels u / 255 (at beta <= 1); other rows from fields in floating point. What is
        drawn for a row depends on that row alone.
        """
        if integers is None:
            return self.draw("h", self.hidden_field(visible), noise, step, beta)
        if self.visible.are_states(visible):
            return integers.sample("h", visible, noise, step, beta)
        drawn, exact = integers.sample_levels(self.visible, visible, noise, step, beta)
        if drawn is not None and bool(exact.all()):
            return drawn
        # In float64 the rounding of a product does not show which rows share it.
        statistic = self.statistic(visible).double()
        field = functional.linear(statistic, self.weight.double(), self.hidden_bias.double())
        other = self.draw("h", field, noise, step, beta).to(self.weight.dtype)
        return other if drawn is None else torch.where(exact.unsqueeze(1), drawn, other)

    @torch.no_grad()
    def sample_visible(
        self,
        hidden: Tensor,
        noise: Noise,
        step: int = 0,
        beta: Beta = 1.0,
        integers: IntegerMachine | None = None,
    ) -> Tensor:
        """Draw v given h, (N, hidden): in exact integers if integers is given and h are states."""
        if integers is not None and self.hidden.are_states(hidden):
            return integers.sample("v", hidden, noise, step, beta)
        return self.draw("v", self.visible_field(hidden), noise, step, beta)

    @torch.no_grad()
    def gibbs(
        self,
        visible: Tensor,
        steps: int = 1,
        *,
        seed: int | None = None,
        first_chain: int = 0,
        first_step: int = 0,
        beta: Beta = 1.0,
        unit_beta: UnitBeta = (None, None),
    ) -> tuple[Tensor, Tensor]:
        """Run one chain from each row of visible and return its last (v, h).

        Each step draws h given v, then v given h; the h returned is drawn with the v returned
        (its cause). A chain's states depend on (seed, the machine's name, first_chain + row,
        first_step + step) and its start only: batches may be split, and chains go on, at will.

        Args:
            visible: (N, visible), finite; means are allowed as a start.
            steps: >= 1.
            seed: None draws one from torch's default generator, so that two calls differ.
            first_chain, first_step: where in the stream of noise these chains are.
            beta: inverse temperature, a number or (N,); >= 0, and > 0 of Gaussian units. In exact
                integers at most 16, and rounded to 2^-24.
            unit_beta: a factor of it for each visible unit, (visible,), and for each hidden one,
                (hidden,). In exact integers a chain then starts from states, not from means.

        Raises:
            ValueError: states, steps, seed or temperatures out of range.

        Example:
            >>> rbm = torch_init.rbm.RBM(6, 4, seed=0)
            >>> v, h = rbm.gibbs(torch.zeros(10, 6), steps=3, seed=1)
            >>> tail, _ = rbm.gibbs(torch.zeros(4, 6), steps=3, seed=1, first_chain=6)
            >>> torch.equal(v[6:], tail)
            True
        """
        self.check_states("gibbs", "visible", visible)
        check_positive_int("gibbs", "steps", steps)
        check_betas("gibbs", beta, len(visible), unit_beta, self.visible.size, self.hidden.size)
        if self.exact and unit_beta != (None, None) and not self.visible.are_states(visible):
            fix = "Start from states, or make the machine with exact=False"
            raise ValueError(describe("gibbs", "visible", "means with unit_beta", "states", fix))
        check_finite_parameters("gibbs", "self", self)
        seed = draw_seed(None) if seed is None else int(check_seed("gibbs", seed))
        for argument, first in (("first_chain", first_chain), ("first_step", first_step)):
            check_place("gibbs", argument, first)
        noise = Noise(seed, self.name, first_chain)
        visible = visible.to(self.weight.dtype)
        return self.run_chains(visible, noise, first_step, steps, beta, unit_beta=unit_beta)

    @torch.no_grad()
    def run_chains(
        self,
        visible: Tensor,
        noise: Noise,
        first_step: int,
        steps: int,
        beta: Beta = 1.0,
        clamp: Tensor | None = None,
        integers: IntegerMachine | None = None,
        unit_beta: UnitBeta = (None, None),
    ) -> tuple[Tensor, Tensor]:
        """Do as gibbs does, from checked states, with the noise given.

        Args:
            clamp: (visible,) bool; units that are true keep their states.
            integers: self.integers(), if it is there already.
        """
        integers = self.integers() if integers is None else integers
        if integers is not None and self.visible.are_states(visible):
            return integers.run(visible, noise, first_step, steps, beta, clamp, unit_beta)
        given = visible
        hidden = visible.new_empty(0)
        of_visible, of_hidden = (of_units(beta, factors) for factors in unit_beta)
        for step in range(first_step, first_step + steps):
            hidden = self.sample_hidden(visible, noise, step, of_hidden, integers)
            visible = self.sample_visible(hidden, noise, step, of_visible, integers)
            visible = visible if clamp is None else torch.where(clamp, given, visible)
            left = first_step + steps - 1 - step
            if integers is not None and left > 0 and self.visible.are_states(visible):
                return integers.run(visible, noise, step + 1, left, beta, clamp)
        return visible, hidden

    @torch.no_grad()
    def reconstruct(self, visible: Tensor, steps: int = 1) -> Tensor:
        """Return the means of v after steps of mean-field passes up and down, (N, visible)."""
        self.check_states("reconstruct", "visible", visible)
        visible = visible.to(self.weight.dtype)
        for _ in range(check_positive_int("reconstruct", "steps", steps)):
            visible = self.visible_mean(self.hidden_mean(visible))
        return visible

    @torch.no_grad()
    def sample(self, num: int, steps: int = 1000, *, seed: int | None = None) -> Tensor:
        """Return num states v, (num, visible), of chains run for so many steps.

        They start from the visible biases alone: at the law of a machine without weights.

        Example:
            >>> torch_init.rbm.RBM(6, 4, seed=0).sample(3, steps=10, seed=0).shape
            torch.Size([3, 6])
        """
        check_positive_int("sample", "num", num)
        check_finite_parameters("sample", "self", self)
        seed = draw_seed(None) if seed is None else int(check_seed("sample", seed))
        start = self.unit_biases()[0].detach().expand(num, -1).contiguous()
        draw = Noise(seed, self.name).at("start", 0, start)
        visible = self.visible.sample(start, self.log_variance, draw)
        return self.gibbs(visible, steps, seed=seed)[0]

    def fit(self, data: Any, **options: Any) -> "History":
        """Train on unlabelled data; see torch_init.rbm.fit.

        Example:
            >>> rbm = torch_init.rbm.RBM(6, 4, seed=0)
            >>> history = rbm.fit(torch.eye(6), epochs=2, batch_size=3)
        """
        from torch_init.rbm.training import fit

        return fit(self, data, **options)


def _check_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """Return dtype; raise unless it is one in which machines compute."""
    if dtype not in (None, torch.float64, torch.float32, torch.bfloat16, torch.float16):
        expected = "torch.float32, float64, bfloat16 or float16"
        raise TypeError(describe("RBM", "dtype", f"{dtype!r}", expected))
    return dtype
