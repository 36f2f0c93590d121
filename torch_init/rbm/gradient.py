# SPDX-License-Identifier: Apache-2.0
"""The gradient of the log-likelihood from the two phases' statistics, plain or centred."""

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_init.rbm.machine import RBM
from torch_init.rbm.parallel import Processes


@dataclass(frozen=True)
class Statistics:
    """Sums over the states of one phase: what the gradient is made of.

    Attributes:
        pairs: sum of h s(v)^T, (hidden, visible); visible: sum of s(v); hidden: sum of h. Of a
            convolution, where units share parameters, the mean over positions.
        log_variance: sum of the log-variance's derivative of -E, or None.
        count: number of states.
    """

    pairs: Tensor
    visible: Tensor
    hidden: Tensor
    log_variance: Tensor | None
    count: int


@torch.no_grad()
def statistics(
    machine: RBM,
    visible: Tensor,
    hidden: Tensor,
    count: int,
    processes: Processes,
) -> Statistics:
    """Add up over this process's states, then over all processes'.

    Those of half precision are float32.

    Args:
        visible, hidden: (N, visible) states or means, and (N, hidden).
        count: number of rows of all processes together.
    """
    s, hidden = wide(machine.statistic(visible)), wide(hidden)
    parts = [part.flatten() for part in machine.sums(s, hidden)]
    learned = isinstance(machine.log_variance, torch.nn.Parameter)
    if learned:
        assert machine.log_variance is not None
        squares = 0.5 * (visible - machine.visible_bias) ** 2 * torch.exp(-machine.log_variance)
        parts.append((squares - s * (hidden @ machine.weight)).sum(0))
    added = processes.sum_(torch.cat(parts)).split([part.numel() for part in parts])
    return Statistics(
        added[0].view_as(machine.weight), added[1], added[2], added[3] if learned else None, count
    )


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor of half precision as float32, others as they are."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


@dataclass
class Gradient:
    """The direction of ascent of each parameter."""

    weight: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor
    log_variance: Tensor | None

    def norm(self) -> Tensor:
        """The Euclidean norm over all parameters, on their device."""
        parts = [self.weight, self.visible_bias, self.hidden_bias]
        if self.log_variance is not None:
            parts.append(self.log_variance)
        return torch.stack([part.double().norm() for part in parts]).norm()


class Offsets:
    """The offsets mu of s(v) and lambda of h that centring subtracts: running means of the data."""

    RATE = 0.01  # Melchior, Fischer, Wiskott (2016), section 4.1

    def __init__(self, machine: RBM) -> None:
        self.visible = wide(torch.zeros_like(machine.visible_bias.detach()))
        self.hidden = wide(torch.zeros_like(machine.hidden_bias.detach()))
        self.started = torch.zeros((), dtype=torch.bool, device="cpu")

    def follow_(self, visible: Tensor, hidden: Tensor) -> None:
        """Move towards the data's means."""
        rate = self.next_rate()
        for offset, mean in ((self.visible, visible), (self.hidden, hidden)):
            offset.mul_(1 - rate).add_(mean, alpha=rate)

    def next_rate(self) -> float:
        """How far the offsets now move towards the data's means; all the way the first time."""
        rate = self.RATE if self.started else 1.0
        self.started.fill_(True)
        return rate


def add_outer_(weight: Tensor, hidden: Tensor, visible: Tensor) -> None:
    """Add hidden visible^T, for each place in the kernel of a convolution, to a weight."""
    if weight.dim() == 2:
        weight.addr_(hidden, visible)
    else:
        weight.add_(torch.outer(hidden, visible)[..., None, None])


@torch.no_grad()
def likelihood_gradient(
    data: Statistics, model: Statistics, offsets: Offsets | None = None
) -> Gradient:
    r"""Return the gradient of mean log p, or with offsets the centred gradient.

    Without offsets: :math:`\nabla W = \langle h s^\top \rangle_d - \langle h s^\top \rangle_m`,
    :math:`\nabla b = \langle s \rangle_d - \langle s \rangle_m`, and likewise for c. With offsets
    (Montavon & Müller 2012; Melchior et al. 2016, algorithm 1), of :math:`s - \mu` and
    :math:`h - \lambda` instead, and back in the usual parameters:
    :math:`\nabla b - \nabla W^\top \lambda` and :math:`\nabla c - \nabla W \mu`. A visible bias
    of Gaussian units has the derivative of s(v) as well.
    """
    d_visible, m_visible = data.visible / data.count, model.visible / model.count
    d_hidden, m_hidden = data.hidden / data.count, model.hidden / model.count
    visible, hidden = d_visible - m_visible, d_hidden - m_hidden
    if data.count == model.count:
        weight = (data.pairs - model.pairs).div_(data.count)
    else:
        weight = (data.pairs / data.count).sub_(model.pairs, alpha=1 / model.count)
    log_variance = None
    if data.log_variance is not None and model.log_variance is not None:
        log_variance = data.log_variance / data.count - model.log_variance / model.count
    if offsets is not None:
        weight.addr_(hidden, offsets.visible, alpha=-1).addr_(offsets.hidden, visible, alpha=-1)
        visible = visible - weight.T @ offsets.hidden
        hidden = hidden - weight @ offsets.visible
    return Gradient(weight, visible, hidden, log_variance)
