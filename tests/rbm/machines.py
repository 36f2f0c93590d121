# SPDX-License-Identifier: Apache-2.0
"""What the tests of RBMs share: small machines of every kind, and their laws by enumeration."""

import itertools

import torch

from torch_init import rbm

DISCRETE = {
    "bernoulli": (rbm.Bernoulli(5), rbm.Bernoulli(4)),
    "spin": (rbm.Spin(5), rbm.Spin(4)),
    "bernoulli-spin": (rbm.Bernoulli(5), rbm.Spin(4)),
    "softmax": (rbm.Softmax(6, categories=3), rbm.Bernoulli(4)),
    "bernoulli-softmax": (rbm.Bernoulli(5), rbm.Softmax(6, categories=3)),
    "labelled": (rbm.Labelled(6, classes=3), rbm.Bernoulli(4)),
}
CONTINUOUS = {
    "gaussian": (rbm.Gaussian(3, variance=0.5), rbm.Bernoulli(4)),
    "gaussian-learned": (rbm.Gaussian(3, variance=0.7, learn_variance=True), rbm.Bernoulli(4)),
    "gaussian-spin": (rbm.Gaussian(3), rbm.Spin(4)),
    "bernoulli-gaussian": (rbm.Bernoulli(5), rbm.Gaussian(3)),
}
ENUMERABLE = DISCRETE | CONTINUOUS


def machine(units, seed=0, scale=0.6, dtype=torch.float64, **options):
    """A machine whose parameters are scale * N(0, 1)."""
    made = rbm.RBM(*units, dtype=dtype, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name != "log_variance":
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return made


def all_pairs(made):
    """Every (v, h) of a machine of discrete units, each (number, size)."""
    v, h = made.visible.states(), made.hidden.states()
    pairs = [torch.stack(rows) for rows in zip(*itertools.product(v, h), strict=True)]
    return pairs[0].to(made.weight.dtype), pairs[1].to(made.weight.dtype)


def visible_law(made, beta=1.0):
    """p(v) of every visible state, from the energies of all pairs."""
    v, h = all_pairs(made)
    weights = torch.softmax(-beta * made.energy(v, h).detach().double(), 0)
    return weights.view(len(made.visible.states()), -1).sum(1)


def row_numbers(states, rows):
    """For each of rows, its number among states."""
    return (rows.double() @ states.double().T - 0.5 * (states.double() ** 2).sum(1)).argmax(1)
