# SPDX-License-Identifier: Apache-2.0
"""Restricted Boltzmann machines: sampling, training, likelihood, pre-training of modules."""

from torch_init.rbm.annealing import Estimate, ais, base_rate, linear_betas, raise_bound
from torch_init.rbm.history import History
from torch_init.rbm.likelihood import log_likelihood, log_partition, pseudo_likelihood
from torch_init.rbm.machine import RBM
from torch_init.rbm.monitors import MONITORS
from torch_init.rbm.pretraining import LayerReport, PretrainReport, rbm_pretrain
from torch_init.rbm.training import fit
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Softmax, Spin, Units

__all__ = [
    "MONITORS",
    "RBM",
    "Bernoulli",
    "Estimate",
    "Gaussian",
    "History",
    "LayerReport",
    "NReLU",
    "PretrainReport",
    "Softmax",
    "Spin",
    "Units",
    "ais",
    "base_rate",
    "fit",
    "linear_betas",
    "log_likelihood",
    "log_partition",
    "pseudo_likelihood",
    "raise_bound",
    "rbm_pretrain",
]
