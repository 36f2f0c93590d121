# SPDX-License-Identifier: Apache-2.0
"""Other implementations of what bench_rbm.py trains: plain torch, scikit-learn, rbms, learnergy.

The last two are optional, and want an environment of their own, as they name other versions of
torch: in one that sees this one's packages,

    pip install --no-deps rbms h5py learnergy

Each function trains for so many epochs and returns the parameters in a machine of torch_init, to
be judged alike.
"""

from collections.abc import Callable

import numpy as np
import torch

from torch_init import rbm

VISIBLE, HIDDEN, BATCH, RATE = 784, 500, 100, 0.05
Epochs = Callable[[torch.Tensor, int], rbm.RBM]
OPTIONAL = {
    "rbms": "pip install --no-deps rbms h5py",
    "learnergy": "pip install --no-deps learnergy",
}
"""How to install what need not be there."""


def plain_torch(k: int) -> Epochs:
    """CD-k as one would write it: addmm, sigmoid, bernoulli."""

    def train(rows: torch.Tensor, epochs: int) -> rbm.RBM:
        device = rows.device
        weight = 0.01 * torch.randn(VISIBLE, HIDDEN, device=device)
        mean = rows.mean(0).clamp(1e-3, 1 - 1e-3)
        b, c = torch.log(mean / (1 - mean)), torch.zeros(HIDDEN, device=device)
        for _ in range(epochs):
            for numbers in torch.randperm(len(rows), device=device).split(BATCH):
                v = rows[numbers]
                up = torch.sigmoid(torch.addmm(c, v, weight))
                h = torch.bernoulli(up)
                for left in reversed(range(k)):
                    seen = torch.bernoulli(torch.sigmoid(torch.addmm(b, h, weight.T)))
                    last = torch.sigmoid(torch.addmm(c, seen, weight))
                    h = torch.bernoulli(last) if left else h
                rate = RATE / len(v)
                weight += rate * (v.T @ up - seen.T @ last)
                b += rate * (v - seen).sum(0)
                c += rate * (up - last).sum(0)
        return machine(weight.T, b, c)

    return train


def scikit_learn(rows: torch.Tensor, epochs: int) -> rbm.RBM:
    """PCD-1 in float32; its rate is divided by the batch size, its visible biases start at 0."""
    from sklearn.neural_network import BernoulliRBM

    model = BernoulliRBM(
        HIDDEN, learning_rate=RATE, batch_size=BATCH, n_iter=epochs, random_state=0
    ).fit(rows.numpy())
    parts = (model.components_, model.intercept_visible_, model.intercept_hidden_)
    return machine(*(torch.from_numpy(np.asarray(part)) for part in parts))


def rbms(rows: torch.Tensor, epochs: int) -> rbm.RBM:
    """PCD-1, centred, without its HDF5 file.

    Its gradient is normalised, so that the rate is the length of a step: the best of 0.01, its
    default, 0.05 and 0.2.
    """
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.training.pcd import fit_batch_pcd

    model = BBRBM(
        weight_matrix=torch.randn(VISIBLE, HIDDEN) * 1e-4,
        vbias=torch.zeros(VISIBLE),
        hbias=torch.zeros(HIDDEN),
    )
    model.init_grad()
    chains = model.init_chains(num_samples=BATCH)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2, maximize=True)
    weights = torch.ones(BATCH, 1)
    with torch.no_grad():
        for _ in range(epochs):
            for numbers in torch.randperm(len(rows)).split(BATCH):
                chains, _ = fit_batch_pcd(
                    (rows[numbers], weights), chains, model, gibbs_steps=1, beta=1.0, centered=True
                )
                optimiser.step()
    return machine(model.weight_matrix.T, model.vbias, model.hbias)


def learnergy(rows: torch.Tensor, epochs: int) -> rbm.RBM:
    """CD-1 by autograd."""
    from learnergy.models.bernoulli import RBM

    model = RBM(n_visible=VISIBLE, n_hidden=HIDDEN, steps=1, learning_rate=RATE)
    dataset = torch.utils.data.TensorDataset(rows, torch.zeros(len(rows)))
    model.fit(dataset, batch_size=BATCH, epochs=epochs)
    return machine(model.W.T, model.a, model.b)


def machine(weight: torch.Tensor, visible: torch.Tensor, hidden: torch.Tensor) -> rbm.RBM:
    """Another implementation's parameters in a machine of ours, to be measured alike."""
    made = rbm.RBM(VISIBLE, HIDDEN, std=0.0)
    with torch.no_grad():
        for parameter, value in zip(made.parameters(), (weight, visible, hidden), strict=True):
            parameter.copy_(value)
    return made
