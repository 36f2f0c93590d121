# SPDX-License-Identifier: Apache-2.0
"""How probable data are: log Z by enumeration, likelihood, pseudo-likelihood."""

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from torch_init.errors import check_number, check_positive_int, describe
from torch_init.keys import check_seed
from torch_init.rbm.energy import check_finite_parameters, check_machine
from torch_init.rbm.machine import RBM
from torch_init.rbm.units import Bernoulli, Spin, Units

MAX_STATES = 2.0**25
"""The most states of the smaller layer that log_partition enumerates."""

_CHUNK_UNITS = 15
_CHUNK = 2**_CHUNK_UNITS


@torch.no_grad()
def log_partition(rbm: RBM) -> float:
    r"""Return log Z exactly, in float64, by summing over the states of the smaller layer.

    .. math:: \log Z = \log \sum_h e^{-F(h)} \quad\text{or}\quad \log \sum_v e^{-F(v)}

    Raises:
        ValueError: neither layer has at most 2^25 states.

    Example:
        >>> rbm = torch_init.rbm.RBM(3, 2, std=0.0)
        >>> round(torch_init.rbm.log_partition(rbm) / math.log(2), 6)
        5.0
    """
    check_machine("log_partition", "rbm", rbm)
    over_visible = rbm.visible.num_states <= rbm.hidden.num_states
    units = rbm.visible if over_visible else rbm.hidden
    if units.num_states > MAX_STATES:
        got = f"{rbm.visible.num_states:g} visible and {rbm.hidden.num_states:g} hidden states"
        fix = "Estimate it by ais() and reverse_ais()"
        raise ValueError(describe("log_partition", "rbm", got, "at most 2**25 of either", fix))
    check_finite_parameters("log_partition", "rbm", rbm)
    rbm = in_float64(rbm)
    free_energy = rbm.free_energy if over_visible else rbm.hidden_free_energy
    total = torch.tensor(-math.inf, dtype=torch.float64, device=rbm.weight.device)
    for states in _state_chunks(units, rbm.weight.device):
        total = torch.logaddexp(total, torch.logsumexp(-free_energy(states), 0))
    return total.item()


def _state_chunks(units: Units, device: torch.device) -> Iterator[Tensor]:
    """Yield all states in chunks; those of binary units are made as they are needed."""
    if not units.binary:
        yield from units.states().to(device).split(_CHUNK)
        return
    units_in_chunk = min(units.size, _CHUNK_UNITS)
    tail = type(units)(units_in_chunk).states().to(device)
    low = tail.min()
    places = torch.arange(units.size - units_in_chunk, device=device)
    for number in range(2 ** (units.size - units_in_chunk)):
        head = torch.where((number >> places) & 1 == 1, 1.0, low)
        yield torch.cat([tail, head.expand(len(tail), -1)], 1)


@torch.no_grad()
def log_likelihood(rbm: RBM, data: Tensor, log_z: float | None = None) -> Tensor:
    """Return log p(v) of each row in nats, shape (N,), float64.

    Args:
        data: (N, visible).
        log_z: the value of an estimate, as ais(...).value; None computes it by log_partition.

    Example:
        >>> rbm = torch_init.rbm.RBM(3, 2, std=0.0)
        >>> log_p = torch_init.rbm.log_likelihood(rbm, torch.zeros(1, 3))
        >>> round(log_p.item() / math.log(2), 6)
        -3.0
    """
    check_machine("log_likelihood", "rbm", rbm)
    rbm.check_states("log_likelihood", "data", data)
    check_finite_parameters("log_likelihood", "rbm", rbm)
    known = None if log_z is None else check_number("log_likelihood", "log_z", log_z)
    known = log_partition(rbm) if known is None else known
    double = in_float64(rbm)
    return torch.cat([-double.free_energy(part.double()) for part in data.split(4096)]) - known


@torch.no_grad()
def pseudo_likelihood(rbm: RBM, data: Tensor, *, flips: int | None = None, seed: int = 0) -> Tensor:
    r"""Return sum_i log p(v_i | all other v), in nats for each row, shape (N,).

    Divide by the number of visible units for a figure that compares across widths. A value between
    the two states is a mean: it counts as the mean of log p over its states, and in the other
    units' conditions as itself,

    .. math:: \sum_i E[\log p(v_i \mid v_{-i})], \quad
        \operatorname{logit} p(v_i = 1 \mid v_{-i}) = F(v_i = 0, v_{-i}) - F(v_i = 1, v_{-i}).

    Args:
        data: (N, visible), states of Bernoulli or spin units, or means of them.
        flips: None: exactly, one pass for each unit. An int: estimated from so many units of each
            row, drawn at random, times visible / flips.
        seed: of the units drawn.

    Raises:
        TypeError: other visible units.

    Example:
        >>> rbm = torch_init.rbm.RBM(4, 2, std=0.0)
        >>> torch_init.rbm.pseudo_likelihood(rbm, torch.zeros(1, 4)) / math.log(2)
        tensor([-4.])
    """
    check_machine("pseudo_likelihood", "rbm", rbm)
    if not isinstance(rbm.visible, (Bernoulli, Spin)):
        got = type(rbm.visible).__name__
        raise TypeError(
            describe("pseudo_likelihood", "rbm.visible", got, "Bernoulli or Spin units")
        )
    rbm.check_states("pseudo_likelihood", "data", data)
    check_finite_parameters("pseudo_likelihood", "rbm", rbm)
    data = data.to(rbm.weight.dtype)
    size = rbm.visible.size
    seed = int(check_seed("pseudo_likelihood", seed))
    if flips is None:
        units = torch.arange(size, device=data.device).expand(len(data), -1)
    else:
        flips = min(check_positive_int("pseudo_likelihood", "flips", flips), size)
        generator = torch.Generator().manual_seed(seed % 2**64)
        drawn = torch.rand(len(data), size, generator=generator, device="cpu").argsort(1)
        units = drawn[:, :flips].to(data.device)
    visible_bias, hidden_bias = rbm.unit_biases()
    field = rbm.hidden_field(data)
    low = -1.0 if isinstance(rbm.visible, Spin) else 0.0
    total = torch.zeros_like(field[:, 0])
    for unit in units.T:
        state = data.gather(1, unit[:, None])
        one = rbm.hidden_input_of(unit)
        up = rbm.hidden.log_partition(field + (1 - state) * one, hidden_bias, None)
        down = rbm.hidden.log_partition(field + (low - state) * one, hidden_bias, None)
        logit = up - down + (1 - low) * visible_bias[unit]
        on = ((state - low) / (1 - low)).squeeze(1)
        total += functional.logsigmoid(logit) * on + functional.logsigmoid(-logit) * (1 - on)
    return total * (size / units.shape[1])


def in_float64(rbm: RBM) -> RBM:
    """Return a copy in float64 that computes in float."""
    made = copy.deepcopy(rbm).double()
    made.exact = False
    return made
