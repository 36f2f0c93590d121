# SPDX-License-Identifier: Apache-2.0
"""Speed of RBM training: an epoch against plain torch, scikit-learn and what else is installed.

    python benchmarks/bench_rbm.py --threads 1 --repeats 5
    python benchmarks/bench_rbm.py --data mnist.npz --quality 10    # and AIS after as many epochs

One epoch is 10,000 x 784 binary rows, 500 hidden units, batches of 100. rbms and
learnergy are timed if they can be imported. Quality is the mean log-likelihood of the training
rows by one AIS for all (data base rates): the implementations' own figures do not compare.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _machine import describe
from _timing import HostClock, Result, Side, measure

from torch_init import rbm

VISIBLE, HIDDEN, ROWS, BATCH, RATE = 784, 500, 10_000, 100, 0.05
Epochs = Callable[[torch.Tensor, int], rbm.RBM]
"""Train for so many epochs and return the machine."""


def ours(**options: object) -> Epochs:
    def train(rows: torch.Tensor, epochs: int) -> rbm.RBM:
        made = rbm.RBM(VISIBLE, HIDDEN)
        made.fit(
            rows,
            **{"epochs": epochs, "batch_size": BATCH, "learning_rate": RATE, "monitors": ()}
            | {"momentum": 0.0, "weight_decay": 0.0}
            | options,
        )
        return made

    return train


def plain_torch(k: int) -> Epochs:
    """CD-k as one would write it: addmm, sigmoid, bernoulli."""

    def train(rows: torch.Tensor, epochs: int) -> rbm.RBM:
        weight = 0.01 * torch.randn(VISIBLE, HIDDEN)
        mean = rows.mean(0).clamp(1e-3, 1 - 1e-3)
        b, c = torch.log(mean / (1 - mean)), torch.zeros(HIDDEN)
        for _ in range(epochs):
            for numbers in torch.randperm(len(rows)).split(BATCH):
                v = rows[numbers]
                up = torch.sigmoid(torch.addmm(c, v, weight))
                h = torch.bernoulli(up)
                for _ in range(k):
                    seen = torch.bernoulli(torch.sigmoid(torch.addmm(b, h, weight.T)))
                    last = torch.sigmoid(torch.addmm(c, seen, weight))
                    h = torch.bernoulli(last)
                rate = RATE / len(v)
                weight += rate * (v.T @ up - seen.T @ last)
                b += rate * (v - seen).sum(0)
                c += rate * (up - last).sum(0)
        return machine(weight.T, b, c)

    return train


def scikit_learn(rows: torch.Tensor, epochs: int) -> rbm.RBM:
    """PCD-1 in float32."""
    from sklearn.neural_network import BernoulliRBM

    model = BernoulliRBM(
        HIDDEN, learning_rate=RATE, batch_size=BATCH, n_iter=epochs, random_state=0
    ).fit(rows.numpy())
    parts = (model.components_, model.intercept_visible_, model.intercept_hidden_)
    return machine(*(torch.from_numpy(np.asarray(part)) for part in parts))


def rbms(rows: torch.Tensor, epochs: int) -> rbm.RBM:
    """PCD-1, centred, without its HDF5 file. Its gradient is normalised: the rate is its own."""
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.training.pcd import fit_batch_pcd

    model = BBRBM(
        weight_matrix=torch.randn(VISIBLE, HIDDEN) * 1e-4,
        vbias=torch.zeros(VISIBLE),
        hbias=torch.zeros(HIDDEN),
    )
    model.init_grad()
    chains = model.init_chains(num_samples=BATCH)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, maximize=True)
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


CASES: dict[str, dict[str, Epochs]] = {
    "CD-1": {
        "torch": plain_torch(1),
        "torch_init": ours(),
        "torch_init, sampled statistics": ours(statistics="samples"),
        "learnergy": learnergy,
    },
    "PCD-1": {
        "scikit-learn": scikit_learn,
        "torch_init": ours(algorithm="pcd"),
        "torch_init, sampled statistics": ours(algorithm="pcd", statistics="samples"),
        "rbms": rbms,
    },
    "CD-10": {
        "torch": plain_torch(10),
        "torch_init": ours(k=10),
        "torch_init, sampled statistics": ours(k=10, statistics="samples"),
    },
}


def load(path: str | None, rows: int) -> torch.Tensor:
    """Binary rows: digits above 0.5, or as many ones drawn at random."""
    if path is None:
        return (
            torch.rand(rows, VISIBLE, generator=torch.Generator().manual_seed(0)) < 0.13
        ).float()
    with np.load(path) as archive:
        images = archive["X"]
    order = np.random.default_rng(0).permutation(len(images))[:rows]
    return torch.from_numpy(images[order] > 127).flatten(1).float()


def sides(rows: torch.Tensor) -> list[Side]:
    updates = len(rows)
    return [
        Side(
            case,
            name,
            lambda train=train: optional(train, rows, 1),
            updates,
            0,
            optional=name in ("learnergy", "rbms"),
        )
        for case, implementations in CASES.items()
        for name, train in implementations.items()
    ]


def optional(train: Epochs, rows: torch.Tensor, epochs: int) -> rbm.RBM:
    try:
        return train(rows, epochs)
    except ImportError as error:
        raise RuntimeError(str(error)) from error


def quality(rows: torch.Tensor, epochs: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for case, implementations in CASES.items():
        for name, train in implementations.items():
            try:
                made = train(rows, epochs)
            except ImportError:
                continue
            estimate = rbm.ais(made, rows, betas=2000)
            mean = rbm.log_likelihood(made, rows, estimate.value).mean().item()
            facts = {"log_likelihood": mean, "ess": estimate.effective_sample_size}
            found[f"{case}, {name}"] = facts
            print(f"{case:>6} {name:<32} {mean:9.2f} nats (ESS {facts['ess']:.0f} of 100)")
    return found


def show(results: list[Result]) -> None:
    for case in CASES:
        group = [result for result in results if result.side.case == case]
        fastest_of_others = group[0].median
        for result in group:
            if result.median is None or fastest_of_others is None:
                print(f"{case:>6} {result.side.implementation:<32} not there: {result.unavailable}")
                continue
            ratio = fastest_of_others / result.median
            print(
                f"{case:>6} {result.side.implementation:<32} {result.median:8.3f} s an epoch, "
                f"{ratio:5.2f} x {group[0].side.implementation}"
            )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--data", help=".npz with uint8 X; default: random rows")
    parser.add_argument("--quality", type=int, default=0, metavar="EPOCHS")
    parser.add_argument("--output", type=Path, help="folder for bench_rbm.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    facts = describe(torch.device("cpu"))
    print(f"{facts['cpu']}, load {facts['load_average_1_min']}, torch {torch.__version__}")
    rows = load(args.data, args.rows)
    results = measure(sides(rows), HostClock(), args.repeats)
    show(results)
    found = quality(rows, args.quality) if args.quality else {}
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        report = {
            "machine": facts,
            "threads": args.threads,
            "results": [result.as_json() for result in results],
            "quality": found,
        }
        text = json.dumps(report, indent=1)
        (args.output / "bench_rbm.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
