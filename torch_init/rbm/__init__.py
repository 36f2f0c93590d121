# SPDX-License-Identifier: Apache-2.0
"""Restricted Boltzmann machines: sampling, training, likelihood, pre-training of modules."""

from typing import Any

from torch_init.rbm.annealing import Estimate, ais, linear_betas, reverse_ais
from torch_init.rbm.biases import base_rate
from torch_init.rbm.convolution import ConvRBM
from torch_init.rbm.dbn import DBN
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
    "rbm_pretrain",
    "receptive_fields",
    "reverse_ais",
    "write_history",
]


def __getattr__(name: str) -> Any:
    """Import RBMTransformer when it is asked for: it is made of scikit-learn's classes."""
    if name != "RBMTransformer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from torch_init.rbm.estimator import RBMTransformer

    return RBMTransformer
