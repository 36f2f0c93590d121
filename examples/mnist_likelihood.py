# SPDX-License-Identifier: Apache-2.0
"""The likelihood of an RBM with 500 hidden units on MNIST, as Salakhutdinov & Murray (2008) ask.

    python examples/mnist_likelihood.py --data mnist.npz

Persistent chains, the centred gradient, a learning rate that decays to 0; then log Z from annealed
importance sampling with their 14,500 temperatures, and reverse annealing from long-run samples
beside it. Their CD-25 machine reached -86.34 nats on the test digits.
The digits (keys X and Xt, uint8, 60,000 and 10,000 of 784 pixels) are on where a pixel > 0.5.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import torch_init
from torch_init.rbm import RBM, ais, log_likelihood, reverse_ais


def published_betas(finer: int = 1) -> torch.Tensor:
    """Return the temperatures of Salakhutdinov & Murray (2008), section 5, or finer ones."""
    parts = (
        torch.linspace(0, 0.5, 500 * finer + 1, dtype=torch.float64)[:-1],
        torch.linspace(0.5, 0.9, 4000 * finer + 1, dtype=torch.float64)[:-1],
        torch.linspace(0.9, 1.0, 10_000 * finer + 1, dtype=torch.float64),
    )
    return torch.cat(parts)


def digits(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the training and test digits, (60000, 784) and (10000, 784), as 0 and 1."""
    with np.load(path) as file:
        train, test = (torch.from_numpy(file[key]).reshape(-1, 784) for key in ("X", "Xt"))
    return (train > 127).float(), (test > 127).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="an .npz file with X and Xt")
    parser.add_argument("--hidden", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--k", type=int, default=1, help="sweeps an update")
    parser.add_argument("--weight-decay", type=float, default=2e-4)
    parser.add_argument("--schedule", default="linear")
    parser.add_argument("--statistics", default="means")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--finer", type=int, default=1, help="times as many temperatures")
    parser.add_argument("--chains", type=int, default=100, help="of each estimate")
    parser.add_argument("--save", type=Path, help="write the machine's state_dict here")
    parser.add_argument("--load", type=Path, help="estimate that machine instead of training")
    options = parser.parse_args()
    train, test = digits(options.data)
    rbm = RBM(784, options.hidden, seed=options.seed)
    if options.load is not None:
        rbm.load_state_dict(torch.load(options.load))
    else:
        learn(rbm, train, options)
    if options.save is not None:
        torch.save(rbm.state_dict(), options.save)
    estimate(rbm, train, test, options)


def learn(rbm: RBM, train: torch.Tensor, options: argparse.Namespace) -> None:
    """Train by PCD and say how long it took."""
    start = time.perf_counter()
    rbm.fit(
        train,
        algorithm="pcd",
        k=options.k,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        schedule=options.schedule,
        weight_decay=options.weight_decay,
        statistics=options.statistics,
        monitors=(),
    )
    print(f"{options.epochs} epochs in {(time.perf_counter() - start) / 60:.1f} min", flush=True)


def estimate(
    rbm: RBM, train: torch.Tensor, test: torch.Tensor, options: argparse.Namespace
) -> None:
    """Print the estimates of log Z from both sides, and the likelihoods they give.

    The reverse chains start from digits and run for long at the model first, so that no mode in
    which there are data is left out.
    """
    start = time.perf_counter()
    betas, chains = published_betas(options.finer), options.chains
    below = ais(rbm, train, betas=betas, chains=chains, seed=1)
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:chains]
    samples, _ = rbm.gibbs(train[rows], steps=20_000, seed=2)
    above = reverse_ais(rbm, samples, train, betas=betas, seed=3)
    print(f"log Z: AIS {below}; reverse AIS {above}")
    for name, data in (("training", train), ("test", test)):
        mean = log_likelihood(rbm, data, 0.0).mean().item()
        forward, reverse = mean - below.value, mean - above.value
        print(f"{name} digits: AIS {forward:.2f}, reverse AIS {reverse:.2f} nats")
    seconds = time.perf_counter() - start
    print(f"estimates in {seconds:.0f} s; torch_init {torch_init.__version__}", flush=True)


if __name__ == "__main__":
    main()
