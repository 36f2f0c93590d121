# SPDX-License-Identifier: Apache-2.0
"""Figures that say how training goes, computed only when they are recorded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_init.errors import describe
from torch_init.rbm.likelihood import pseudo_likelihood
from torch_init.rbm.machine import RBM
from torch_init.rbm.units import Bernoulli, Spin, Units


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


def check_monitors(
    function: str, names: Sequence[str], patience: int | None, visible: Units, held_out: bool
) -> None:
    """Raise if a monitor named has no figure for such a machine, or none to be patient with."""
    if "pseudo_likelihood" in names and not isinstance(visible, (Bernoulli, Spin)):
        got = f"'pseudo_likelihood' of {type(visible).__name__} units"
        raise ValueError(describe(function, "monitors", got, "figures of such units"))
    if patience is not None and names[0] == "free_energy_gap" and not held_out:
        got = "'free_energy_gap' first, without validation"
        raise ValueError(describe(function, "monitors", got, "a figure for patience to watch"))


@torch.no_grad()
def look(names: list[str], moment: Moment) -> dict[str, float]:
    """Return the figures of the monitors named."""
    return {name: MONITORS[name](moment) for name in names}
