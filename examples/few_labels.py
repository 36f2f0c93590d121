# SPDX-License-Identifier: Apache-2.0
r"""Few labels: a sigmoid network from a pre-trained start against plain starts.

    python examples/few_labels.py                                       # scikit-learn's digits
    python examples/few_labels.py --data mnist.npz --unlabelled 10000 --widths 500 500 \
        --epochs 10 --batch-size 100
    python examples/few_labels.py --data mnist.npz --unlabelled 5000 --channels 12 24 \
        --epochs 3 --batch-size 50 --learning-rate 0.2 --sparsity-target 0.1    # convolutional

All starts see the same labelled examples, in the same order, with the same optimiser; the
pre-trained one has also seen the unlabelled ones. Test accuracy in per cent, mean over the seeds.
"""

import argparse
import itertools
import statistics
import time
from typing import Any

import numpy as np
import torch
from torch import nn

import torch_init

STARTS = ["lecun", "xavier", "he", "xavier, gain 4", "pre-trained"]


def load(path: str | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return training images in [0, 1] and labels, then those of the test set."""
    if path is None:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(images))
        images, labels = images[order] / 16, labels[order]
        split = 1400
        arrays = images[:split], labels[:split], images[split:], labels[split:]
    else:
        with np.load(path) as archive:
            x, y, xt, yt = (archive[key] for key in ("X", "y", "Xt", "yt"))
        order = np.random.default_rng(0).permutation(len(x))
        arrays = x[order] / 255, y[order], xt / 255, yt
    x, y, xt, yt = (torch.as_tensor(np.ascontiguousarray(array)) for array in arrays)
    return x.flatten(1).float(), y.long(), xt.flatten(1).float(), yt.long()


def network(sizes: list[int]) -> nn.Sequential:
    """A multilayer perceptron of sigmoid units."""
    parts: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        parts += [nn.Linear(fan_in, fan_out), nn.Sigmoid()]
    return nn.Sequential(*parts[:-1])


def convolutional(channels: list[int], pixels: int) -> nn.Sequential:
    """A network of sigmoid maps, each followed by max-pooling."""
    side = round(pixels**0.5)
    parts: list[nn.Module] = [nn.Unflatten(1, (1, side, side))]
    for below, above in itertools.pairwise([1, *channels]):
        parts += [nn.Conv2d(below, above, 5, padding=2), nn.Sigmoid(), nn.MaxPool2d(2)]
        side //= 2
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels[-1] * side * side, 10))


def start(
    model: nn.Sequential, name: str, unlabelled: torch.Tensor, seed: int, options: dict[str, Any]
) -> None:
    """Give the model its start; the options are those of pre-training."""
    if name == "pre-trained":
        torch_init.rbm_pretrain(model, unlabelled, seed=seed, progress=False, **options)
    elif name == "xavier, gain 4":  # what sigmoids want: 1 / sigmoid'(0)
        weights = torch_init.rule("*.weight", torch_init.xavier_uniform_, gain=4.0)
        torch_init.init_(model, [torch_init.rule("*", torch_init.zeros_), weights], seed=seed)
    else:
        torch_init.init_(model, name, seed=seed)


def fine_tune(model: nn.Module, x: torch.Tensor, y: torch.Tensor, updates: int, seed: int) -> None:
    """Adam on cross-entropy, batches of 20."""
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < updates:
        for rows in torch.randperm(len(x), generator=generator).split(20):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
            done += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help=".npz with uint8 X, y, Xt, yt (default: 8x8 digits)")
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--unlabelled", type=int, default=1400)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 128])
    parser.add_argument("--channels", type=int, nargs="+", help="of a convolutional network")
    parser.add_argument("--learning-rate", type=float, help="of pre-training")
    parser.add_argument("--sparsity-target", type=float, help="of pre-training; at a cost of 1")
    parser.add_argument("--epochs", type=int, default=20, help="of pre-training, each layer")
    parser.add_argument("--batch-size", type=int, default=20, help="of pre-training")
    parser.add_argument("--updates", type=int, default=300, help="of fine-tuning")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # layers of a few hundred units gain nothing from more
    x, y, x_test, y_test = load(args.data)
    options = {"epochs": args.epochs, "batch_size": args.batch_size}
    options["learning_rate"] = args.learning_rate
    options |= {"sparsity_target": args.sparsity_target, "sparsity_cost": 1.0}
    unlabelled = x[: args.unlabelled]
    found: dict[str, list[float]] = {name: [] for name in STARTS}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[: args.labels]
        for name in STARTS:
            began = time.perf_counter()
            if args.channels:
                model = convolutional(args.channels, x.shape[1])
            else:
                model = network([x.shape[1], *args.widths, 10])
            start(model, name, unlabelled, seed, options)
            started = time.perf_counter() - began
            fine_tune(model, x[rows], y[rows], args.updates, seed)
            with torch.no_grad():
                accuracy = (model(x_test).argmax(1) == y_test).float().mean().item() * 100
            found[name].append(accuracy)
            print(
                f"seed {seed}, {name}: {accuracy:.2f} ({started:.1f} s for the start)", flush=True
            )
    plain = max(statistics.mean(found[name]) for name in STARTS[:-1])
    for name, accuracies in found.items():
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        print(f"{name:>15}: {statistics.mean(accuracies):.2f} +- {spread:.2f}")
    print(f"pre-trained - best plain start: {statistics.mean(found['pre-trained']) - plain:+.2f}")


if __name__ == "__main__":
    main()
