# SPDX-License-Identifier: Apache-2.0
"""Visible biases with which a machine without weights has the data's means."""

from collections.abc import Callable

import torch
from torch import Tensor

from torch_init.errors import describe
from torch_init.rbm.energy import check_machine
from torch_init.rbm.labelled import Labelled
from torch_init.rbm.machine import RBM
from torch_init.rbm.units import Bernoulli, Gaussian, Softmax, Spin, Units


@torch.no_grad()
def base_rate(rbm: RBM, data: Tensor) -> Tensor:
    """Return the visible biases, float64, of a machine without weights that fits the data's means.

    Of Bernoulli units log(p / (1 - p)) with p = (sum + 5) / (N + 10), as in Salakhutdinov's code;
    spin units half of that, softmax units (a label too) log p; Gaussian units the mean.

    Args:
        data: (N, visible), N >= 1.

    Example:
        >>> torch_init.rbm.base_rate(torch_init.rbm.RBM(1, 1), torch.ones(10, 1))
        tensor([1.0986], dtype=torch.float64)
    """
    check_machine("base_rate", "rbm", rbm)
    rbm.check_states("base_rate", "data", data)
    count = len(data)
    if count == 0:
        raise ValueError(describe("base_rate", "data", "no rows", "at least one"))
    return _bias_of(rbm.visible, data.double().mean(0), lambda p: (count * p + 5) / (count + 10))


@torch.no_grad()
def set_visible_bias(machine: RBM, means: Tensor, count: int) -> None:
    """Hinton (2010), section 8.1: the biases of the means of count rows, kept within 1 / count."""
    least = max(1 / max(count, 2), 1e-3)
    means = machine.means_of_biases(means.to(machine.visible_bias.device))
    bias = _bias_of(machine.visible, means, lambda p: p.clamp(least, 1 - least))
    machine.visible_bias.copy_(bias)


def _bias_of(units: Units, means: Tensor, smooth: Callable[[Tensor], Tensor]) -> Tensor:
    """The biases of means, whose probabilities are first moved into (0, 1) by smooth."""
    if isinstance(units, Gaussian):
        return means
    if isinstance(units, Spin):
        return 0.5 * torch.logit(smooth((1 + means) / 2))
    if isinstance(units, Softmax):
        return smooth(means).log()
    if isinstance(units, Labelled):
        return torch.cat([_bias_of(*part, smooth) for part in units.parts(means)])
    assert isinstance(units, Bernoulli)
    return torch.logit(smooth(means))
