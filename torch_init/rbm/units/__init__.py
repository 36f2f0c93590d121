# SPDX-License-Identifier: Apache-2.0
"""Kinds of units: what a layer's states are, their energy, their law given the other layer."""

from torch_init.errors import check_positive_int
from torch_init.rbm.units.base import Draw, Units
from torch_init.rbm.units.discrete import Bernoulli, Softmax, Spin
from torch_init.rbm.units.real import Gaussian, NReLU

__all__ = ["Bernoulli", "Draw", "Gaussian", "NReLU", "Softmax", "Spin", "Units", "as_units"]


def as_units(function: str, argument: str, units: int | Units) -> Units:
    """Return units; an int stands for so many Bernoulli units."""
    if isinstance(units, Units):
        return units
    return Bernoulli(check_positive_int(function, argument, units))
