# SPDX-License-Identifier: Apache-2.0
"""Restricted Boltzmann machines: sampling, training, likelihood, pre-training of modules."""

from torch_init.rbm.annealing import Estimate, ais, base_rate, linear_betas, raise_bound
from torch_init.rbm.convolution import ConvRBM
from torch_init.rbm.dbn import DBN
from torch_init.rbm.estimator import RBMTransformer
from torch_init.rbm.history import History
from torch_init.rbm.labelled import Labelled
from torch_init.rbm.layer_training import LayerReport
from torch_init.rbm.likelihood import log_likelihood, log_partition, pseudo_likelihood
from torch_init.rbm.machine import RBM
from torch_init.rbm.monitors import MONITORS
from torch_init.rbm.pictures import (
    fantasies,
    learning_curves,
    mosaic,
    receptive_fields,
    write_history,
)
from torch_init.rbm.pretraining import PretrainReport, rbm_pretrain
from torch_init.rbm.training import fit
from torch_init.rbm.units import Bernoulli, Gaussian, NReLU, Softmax, Spin, Units

__all__ = [
    "DBN",
    "MONITORS",
    "RBM",
    "Bernoulli",
    "ConvRBM",
    "Estimate",
    "Gaussian",
    "History",
    "Labelled",
    "LayerReport",
    "NReLU",
    "PretrainReport",
    "RBMTransformer",
    "Softmax",
    "Spin",
    "Units",
    "ais",
    "base_rate",
    "fantasies",
    "fit",
    "learning_curves",
    "linear_betas",
    "log_likelihood",
    "log_partition",
    "mosaic",
    "pseudo_likelihood",
    "raise_bound",
    "rbm_pretrain",
    "receptive_fields",
    "write_history",
]
