# SPDX-License-Identifier: Apache-2.0
"""Restricted Boltzmann machines: sampling, training, likelihood, pre-training of modules."""

from torch_init.rbm.machine import RBM
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Softmax, Spin, Units

__all__ = ["RBM", "Bernoulli", "Gaussian", "NReLU", "Softmax", "Spin", "Units"]
