# SPDX-License-Identifier: Apache-2.0
"""Figures that say how training goes, computed only when they are recorded."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_init.rbm.likelihood import pseudo_likelihood
from torch_init.rbm.machine import RBM


@dataclass(frozen=True)
class Moment:
    """What a monitor may look at: rows of the training and held-out data, the last gradient."""

    machine: RBM
    training: Tensor
    validation: Tensor | None
    gradient_norm: float
    epoch: int

    @property
    def watched(self) -> Tensor:
        """The held-out rows if there are any, else training rows."""
        return self.training if self.validation is None else self.validation


def _reconstruction(moment: Moment) -> float:
    rows = moment.watched
    return ((moment.machine.reconstruct(rows) - rows) ** 2).mean().item()


def _pseudo_likelihood(moment: Moment) -> float:
    rows, size = moment.watched, moment.machine.visible.size
    # The same rows and the same few units each time, so that epochs compare.
    return pseudo_likelihood(moment.machine, rows, flips=10).mean().item() / size


def _free_energy_gap(moment: Moment) -> float:
    if moment.validation is None:
        return float("nan")
    free_energy = moment.machine.free_energy
    return (free_energy(moment.validation).mean() - free_energy(moment.training).mean()).item()


MONITORS: dict[str, Callable[[Moment], float]] = {
    "reconstruction": _reconstruction,
    "pseudo_likelihood": _pseudo_likelihood,
    "free_energy_gap": _free_energy_gap,
    "gradient_norm": lambda moment: moment.gradient_norm,
    "weight_norm": lambda moment: moment.machine.weight.norm().item(),
    "hidden_mean": lambda moment: moment.machine.hidden_mean(moment.watched).mean().item(),
}
"""reconstruction: mean squared error, per unit, of the mean-field reconstruction.
pseudo_likelihood: nats per visible unit, estimated from ten units of each row.
free_energy_gap: mean F(held-out) - mean F(training rows): it grows when the machine overfits."""

HIGHER_IS_BETTER = ("pseudo_likelihood",)


@torch.no_grad()
def look(names: list[str], moment: Moment) -> dict[str, float]:
    """Return the figures of the monitors named."""
    return {name: MONITORS[name](moment) for name in names}
