# SPDX-License-Identifier: Apache-2.0
"""Speed of RBM training: an epoch against plain torch, scikit-learn and what else is installed.

    python benchmarks/bench_rbm.py --threads 1 --repeats 5
    python benchmarks/bench_rbm.py --data mnist.npz --quality 10    # and AIS after as many epochs

One epoch is 10,000 x 784 binary rows, 500 hidden units, batches of 100: 100 updates, of every
implementation. rbms and learnergy are timed if they can be imported (_rbm_peers.py says how to
install them). In CD the gradient is the plain one, as the others' is. Quality is the mean
log-likelihood of held-out rows by one AIS for all (base rates of the training rows): the
implementations' own figures do not compare.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import threadpoolctl
import torch
from _machine import describe
from _rbm_peers import (
    BATCH,
    HIDDEN,
    OPTIONAL,
    RATE,
    VISIBLE,
    Epochs,
    learnergy,
    plain_torch,
    rbms,
    scikit_learn,
)
from _timing import Clock, CpuClock, HostClock, Result, Side, measure

from torch_init import rbm

ROWS = 10_000
OURS = "torch_init"


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


CASES: dict[str, dict[str, Epochs]] = {
    "CD-1": {
        "torch": plain_torch(1),
        "torch_init": ours(centered=False),
        "torch_init, sampled statistics": ours(centered=False, statistics="samples"),
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
        "torch_init": ours(centered=False, k=10),
        "torch_init, sampled statistics": ours(centered=False, k=10, statistics="samples"),
    },
}


def load(path: str | None, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Binary rows to train on and as many held-out ones: digits above 0.5, or random ones."""
    if path is None:
        generator = torch.Generator().manual_seed(0)
        drawn = (torch.rand(2 * rows, VISIBLE, generator=generator) < 0.13).float()
        return drawn[:rows], drawn[rows:]
    with np.load(path) as archive:
        images = archive["X"]
    order = np.random.default_rng(0).permutation(len(images))[: 2 * rows]
    digits = torch.from_numpy(images[order] > 127).flatten(1).float()
    return digits[:rows], digits[rows:]


def sides(rows: torch.Tensor) -> list[Side]:
    return [
        Side(
            case,
            name,
            lambda train=train, name=name: optional(name, train, rows, 1),
            len(rows),
            0,
            optional=name in OPTIONAL,
        )
        for case, implementations in CASES.items()
        for name, train in implementations.items()
    ]


def optional(name: str, train: Epochs, rows: torch.Tensor, epochs: int) -> rbm.RBM:
    try:
        return train(rows, epochs)
    except ImportError as error:
        raise RuntimeError(f"not installed: {OPTIONAL.get(name, error)}") from error


def quality(rows: torch.Tensor, held_out: torch.Tensor, epochs: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    updates = epochs * -(-len(rows) // BATCH)
    print(f"log-likelihood of held-out rows after {updates} updates, by AIS:")
    for case, implementations in CASES.items():
        for name, train in implementations.items():
            torch.manual_seed(0)
            try:
                made = train(rows, epochs)
            except ImportError:
                continue
            estimate = rbm.ais(made, rows, betas=2000)
            mean = rbm.log_likelihood(made, held_out, estimate.value).mean().item()
            facts = {"log_likelihood": mean, "ess": estimate.effective_sample_size}
            found[f"{case}, {name}"] = facts
            print(f"{case:>6} {name:<32} {mean:9.2f} nats (ESS {facts['ess']:.0f} of 100)")
    return found


def show(results: list[Result]) -> None:
    """One line for each side; ours say how many times as fast as each other one they are."""
    for case in CASES:
        group = [result for result in results if result.side.case == case]
        others = [r for r in group if r.median and not r.side.implementation.startswith(OURS)]
        for result in group:
            name, median = result.side.implementation, result.median
            line = f"{case:>6} {name:<32} "
            if median is None:
                print(f"{line}{result.unavailable}")
                continue
            line += f"{median:8.3f} s an epoch"
            if name.startswith(OURS):
                ratios = [f"{r.median / median:.2f} x {r.side.implementation}" for r in others]
                line += "  " + ", ".join(ratios)
            print(line)


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
    rows, held_out = load(args.data, args.rows)
    # NumPy's BLAS, which scikit-learn calls, has threads of its own.
    with threadpoolctl.threadpool_limits(args.threads):
        clock: Clock = CpuClock() if args.threads == 1 else HostClock()
        results = measure(sides(rows), clock, args.repeats)
        show(results)
        found = quality(rows, held_out, args.quality) if args.quality else {}
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
