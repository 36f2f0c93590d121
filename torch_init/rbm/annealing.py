# SPDX-License-Identifier: Apache-2.0
"""log Z by annealing, from the base machine and back to it, where enumeration is too much."""

import itertools
import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_init.errors import check_positive_int, describe
from torch_init.keys import check_seed
from torch_init.rbm.biases import base_rate
from torch_init.rbm.energy import check_finite_parameters, check_machine, check_tensor
from torch_init.rbm.likelihood import in_float64
from torch_init.rbm.machine import RBM
from torch_init.rbm.sampling import Noise
from torch_init.rbm.units import NReLU

LOW_EFFICIENCY = 0.1
"""The effective sample size, as a share of the chains, below which an estimate warns."""


@dataclass(frozen=True)
class Estimate:
    """An estimate of log Z from independent chains; print it.

    Attributes:
        value: the estimate.
        low, high: three standard errors of the averaged weights below and above, as Salakhutdinov
            & Murray (2008) report them; infinite where the weights vary too much for it.
        effective_sample_size: (sum w)^2 / sum w^2 of the chains' weights, at most their number.
        log_weights: (chains,), float64: each chain's own estimate of log Z.
    """

    value: float
    low: float
    high: float
    effective_sample_size: float
    log_weights: Tensor

    def __str__(self) -> str:
        efficiency = f"{self.effective_sample_size:.0f} of {len(self.log_weights)}"
        interval = f"[{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f} {interval}, effective sample size {efficiency}"


def linear_betas(num: int) -> Tensor:
    """Return num inverse temperatures from 0 to 1, evenly spaced, float64.

    Example:
        >>> linear_betas(3)
        tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    check_positive_int("linear_betas", "num", num)
    return torch.linspace(0, 1, num, dtype=torch.float64, device="cpu")


@torch.no_grad()
def ais(
    rbm: RBM,
    data: Tensor | None,
    *,
    betas: int | Tensor = 10_000,
    chains: int = 100,
    seed: int = 0,
) -> Estimate:
    """Estimate log Z by annealed importance sampling (Neal 2001; Salakhutdinov & Murray 2008).

    The chains go from a machine without weights to rbm; those of binary units in one native call.
    exp(value) is unbiased, so value is on average below log Z, and likelihoods made of it above the
    true ones. reverse_ais comes from the other side: show both.

    Args:
        data: (N, visible); the base machine has its base rates, without which the estimate can be
            off by tens of nats while its interval looks fine. None: uniform base rates.
        betas: inverse temperatures from 0 to 1, or the number of evenly spaced ones.
        chains, seed: how many chains, and of what noise.

    Warns:
        UserWarning: an effective sample size below a tenth of the chains.

    Raises:
        TypeError, ValueError: NReLU hidden units; data, betas or chains that make no path.

    Example:
        >>> rbm = torch_init.rbm.RBM(5, 4, std=0.0)
        >>> print(torch_init.rbm.ais(rbm, None, betas=10))
        6.24 [6.24, 6.24], effective sample size 100 of 100
        >>> round(torch_init.rbm.log_partition(rbm), 2)
        6.24
    """
    path = _Path("ais", rbm, data, betas)
    integers = rbm.integers()
    check_positive_int("ais", "chains", chains)
    noise = Noise(int(check_seed("ais", seed)), f"{rbm.name}.ais")
    if integers is not None:
        log_weights = integers.anneal(path.betas, path.base, noise, chains=chains)
    else:
        log_weights = path.weights_from_base(chains, noise)
    estimate = _estimate(log_weights + path.base_log_z)
    _warn_if_uneven("ais", estimate, "under")
    return estimate


@torch.no_grad()
def reverse_ais(
    rbm: RBM,
    samples: Tensor,
    data: Tensor | None,
    *,
    betas: int | Tensor = 10_000,
    seed: int = 0,
) -> Estimate:
    """Estimate log Z by reverse AIS: chains go from samples of rbm to the base machine.

    From exact samples, exp(-value) is an unbiased estimate of 1 / Z, so that value is on average
    above log Z and encloses it together with ais: bidirectional Monte Carlo (Grosse, Ghahramani,
    Adams 2015). From anything else it is no bound. Samples of chains that have not mixed, as
    those of rbm.sample may be, can put both estimates on the same side of log Z with small
    intervals. (RAISE, of Burda, Grosse, Salakhutdinov 2015, is another estimator: it bounds the
    likelihood of test data.)

    Args:
        samples: (N, visible), N >= 1, one chain each.
        data, betas, seed: as ais takes them; give both the same data.

    Returns:
        -log of the mean of the chains' estimates of 1 / Z; its interval is that of the mean.

    Warns:
        UserWarning: an effective sample size below a tenth of the chains.

    Raises:
        TypeError, ValueError: as ais, and samples that are no states, or none at all.

    Example:
        >>> rbm = torch_init.rbm.RBM(5, 4, seed=0)
        >>> samples = rbm.sample(50, steps=20, seed=1)
        >>> above = torch_init.rbm.reverse_ais(rbm, samples, samples, betas=100)
        >>> abs(above.value - torch_init.rbm.log_partition(rbm)) < 0.05
        True
    """
    path = _Path("reverse_ais", rbm, data, betas)
    rbm.check_states("reverse_ais", "samples", samples)
    if len(samples) == 0:
        expected = "one sample of the machine or more"
        raise ValueError(describe("reverse_ais", "samples", "none", expected))
    noise = Noise(int(check_seed("reverse_ais", seed)), f"{rbm.name}.reverse_ais")
    integers = rbm.integers()
    samples = samples.to(rbm.weight.device)
    if integers is not None and rbm.visible.are_states(samples):
        log_weights = -integers.anneal(path.betas.flip(0), path.base, noise, visible=samples)
    else:
        log_weights = path.weights_to_base(samples.double(), noise)
    inverse = _estimate(-(log_weights + path.base_log_z))
    estimate = Estimate(
        -inverse.value,
        -inverse.high,
        -inverse.low,
        inverse.effective_sample_size,
        -inverse.log_weights,
    )
    _warn_if_uneven("reverse_ais", estimate, "over")
    return estimate


class _Path:
    """The machines between the base machine and rbm: weights and hidden biases times beta."""

    def __init__(self, function: str, rbm: RBM, data: Tensor | None, betas: int | Tensor) -> None:
        check_machine(function, "rbm", rbm)
        if isinstance(rbm.hidden, NReLU):
            fix = "Their energy is not defined, so neither is log Z"
            raise TypeError(describe(function, "rbm", "NReLU hidden units", "other units", fix))
        check_finite_parameters(function, "rbm", rbm)
        self.betas = _check_betas(function, betas)
        self._rbm = rbm = in_float64(rbm)
        if data is None:
            self.base = rbm.visible_bias.new_zeros(rbm.visible.size)
        else:
            check_tensor(function, "data", data, f"shape (N, {rbm.visible.size})")
            self.base = base_rate(rbm, data if data.is_meta else data.to(rbm.weight.device))
        zero = rbm.hidden_bias.new_zeros(rbm.hidden.size)
        hidden = rbm.hidden.log_partition(zero, zero, None)
        visible = rbm.visible.log_partition(self.base, self.base, rbm.log_variance)
        self.base_log_z = (hidden + visible).item()

    def weights_from_base(self, chains: int, noise: Noise) -> Tensor:
        """Anneal chains from the base machine to rbm; return their log-weights, (chains,)."""
        field = self.base.expand(chains, -1).contiguous()
        draw = noise.at("start", 0, field)
        state = self.start(self._rbm.visible.sample(field, self._rbm.log_variance, draw))
        log_weights = field.new_zeros(chains)
        for step, (hotter, beta) in enumerate(itertools.pairwise(self.betas.tolist())):
            log_weights += self.log_ratio(state, beta, hotter)
            state = self.sweep(state, beta, noise, step)
        return log_weights

    def weights_to_base(self, samples: Tensor, noise: Noise) -> Tensor:
        """Anneal from samples of rbm to the base machine; return the log-weights, (samples,)."""
        state = self.start(samples)
        log_weights = samples.new_zeros(len(samples))
        for step, (beta, hotter) in enumerate(itertools.pairwise(self.betas.flip(0).tolist())):
            state = self.sweep(state, beta, noise, step)
            log_weights += self.log_ratio(state, beta, hotter)
        return log_weights

    def _visible_bias(self, beta: float) -> Tensor:
        return (1 - beta) * self.base + beta * self._rbm.unit_biases()[0]

    def start(self, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return visible with the hidden fields it gives at beta 1: the state of the chains."""
        return visible, self._rbm.hidden_field(visible)

    def log_ratio(self, state: tuple[Tensor, Tensor], colder: float, hotter: float) -> Tensor:
        """log of the unnormalised p of each chain at the colder over that at the hotter machine."""
        return self._log_p(state, colder) - self._log_p(state, hotter)

    def _log_p(self, state: tuple[Tensor, Tensor], beta: float) -> Tensor:
        visible, field = state
        rbm, bias = self._rbm, self._visible_bias(beta)
        summed = rbm.hidden.log_partition(beta * field, beta * rbm.unit_biases()[1], None)
        return summed - rbm.visible.energy(visible, bias, rbm.log_variance)

    def sweep(
        self, state: tuple[Tensor, Tensor], beta: float, noise: Noise, step: int
    ) -> tuple[Tensor, Tensor]:
        rbm, field = self._rbm, state[1]
        hidden = rbm.hidden.sample(beta * field, None, noise.at("h", step, field))
        field = (1 - beta) * self.base + beta * rbm.visible_field(hidden)
        draw = noise.at("v", step, field)
        return self.start(rbm.visible.sample(field, rbm.log_variance, draw))


def _check_betas(function: str, betas: int | Tensor) -> Tensor:
    if not isinstance(betas, Tensor):
        number = check_positive_int(function, "betas", betas)
        if number < 2:
            raise ValueError(describe(function, "betas", f"{number}", "2 or more"))
        return linear_betas(number)
    if betas.is_meta or betas.is_complex() or betas.layout != torch.strided:
        got = f"a {betas.device.type} tensor of {betas.dtype}"
        raise TypeError(describe(function, "betas", got, "rising values from 0 to 1"))
    betas = betas.double().cpu()
    rising = betas.dim() == 1 and len(betas) > 1 and bool((betas.diff() > 0).all())
    if not rising or betas[0] != 0 or betas[-1] != 1:
        got = f"a tensor of shape {tuple(betas.shape)}"
        raise ValueError(describe(function, "betas", got, "rising values from 0 to 1"))
    return betas


def _estimate(log_weights: Tensor) -> Estimate:
    count = len(log_weights)
    value = (torch.logsumexp(log_weights, 0) - math.log(count)).item()
    weights = torch.exp(log_weights - value)  # with mean 1
    error = 3 * weights.std().item() / math.sqrt(count) if count > 1 else math.inf
    return Estimate(
        value,
        value + math.log1p(-error) if error < 1 else -math.inf,
        value + math.log1p(error),
        (weights.sum() ** 2 / (weights**2).sum()).item(),
        log_weights,
    )


def _warn_if_uneven(function: str, estimate: Estimate, side: str) -> None:
    size, chains = estimate.effective_sample_size, len(estimate.log_weights)
    if size < LOW_EFFICIENCY * chains:
        text = (
            f"{function}: an effective sample size of {size:.1f} of {chains} chains: "
            f"log Z is probably {side}estimated; use more betas or chains"
        )
        warnings.warn(text, stacklevel=4)  # the caller: no_grad has a frame of its own
