# SPDX-License-Identifier: Apache-2.0
r"""A 784-500-500-2000-10 sigmoid network on all of MNIST, pre-trained, then fine-tuned.

    python examples/mnist_classifier.py --data mnist.npz
    python examples/mnist_classifier.py --data mnist.npz --start "xavier, gain 4"

The network of Hinton, Osindero, Teh (2006), whose generative model made 1.25 % errors on the test
digits. Here every layer is pre-trained by `torch_init.rbm_pretrain`, and the whole fine-tuned by
backpropagation, with dropout (Hinton et al. 2012) if asked for.
The test digits are looked at once, after the last epoch: nothing was chosen on them.
"""

import argparse
import itertools
import time

import numpy as np
import torch
from torch import nn

import torch_init

WIDTHS = [784, 500, 500, 2000, 10]
STARTS = ["pre-trained", "xavier", "xavier, gain 4"]


def load(path: str) -> list[torch.Tensor]:
    """Return training images in [0, 1] and labels, then those of the test set."""
    with np.load(path) as archive:
        x, y, xt, yt = (torch.from_numpy(archive[key]) for key in ("X", "y", "Xt", "yt"))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return [x[order].flatten(1) / 255, y[order].long(), xt.flatten(1) / 255, yt.long()]


def network(drop_input: float, drop_hidden: float) -> nn.Sequential:
    """Linear, sigmoid, dropout, three times over, and a linear head."""
    parts: list[nn.Module] = [nn.Dropout(drop_input)]
    for fan_in, fan_out in itertools.pairwise(WIDTHS[:-1]):
        parts += [nn.Linear(fan_in, fan_out), nn.Sigmoid(), nn.Dropout(drop_hidden)]
    return nn.Sequential(*parts, nn.Linear(*WIDTHS[-2:]))


def start(model: nn.Module, args: argparse.Namespace, images: torch.Tensor) -> None:
    """Give the model its first weights."""
    if args.start == "pre-trained":
        print(torch_init.rbm_pretrain(model, images, epochs=args.pretrain_epochs, seed=args.seed))
        return
    gain = 4.0 if "gain" in args.start else 1.0  # 1 / sigmoid'(0) = 4
    weights = torch_init.rule("*.weight", torch_init.xavier_uniform_, gain=gain)
    torch_init.init_(model, [torch_init.rule("*", torch_init.zeros_), weights], seed=args.seed)


def errors(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the percentage of images that are given a wrong label."""
    model.eval()
    with torch.no_grad():
        right = [
            model(x).argmax(1) == y
            for x, y in zip(images.split(1000), labels.split(1000), strict=True)
        ]
    model.train()
    return 100 * (1 - torch.cat(right).float().mean().item())


def fine_tune(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, args: argparse.Namespace
) -> None:
    """Stochastic gradient descent with momentum, a learning rate that decays linearly to 0."""
    optimiser = torch.optim.SGD(
        model.parameters(), args.learning_rate, momentum=0.9, weight_decay=args.weight_decay
    )
    updates = args.epochs * (len(images) // 100)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: 1 - done / updates)
    generator = torch.Generator().manual_seed(args.seed)
    for epoch in range(args.epochs):
        losses = []
        for rows in torch.randperm(len(images), generator=generator).split(100):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.detach())
        print(f"epoch {epoch + 1}: mean loss {torch.stack(losses).mean():.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help=".npz with uint8 X, y, Xt, yt")
    parser.add_argument("--start", choices=STARTS, default="pre-trained")
    parser.add_argument("--pretrain-epochs", type=int, default=20, help="of each layer")
    parser.add_argument("--epochs", type=int, default=20, help="of fine-tuning")
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--drop-input", type=float, default=0.0)
    parser.add_argument("--drop-hidden", type=float, default=0.0)
    parser.add_argument("--validation", type=int, default=0, help="hold out so many, for tuning")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    x, y, x_test, y_test = load(args.data)
    if args.validation:
        x_test, y_test = x[-args.validation :], y[-args.validation :]
        x, y = x[: -args.validation], y[: -args.validation]
    torch.manual_seed(args.seed)  # of dropout
    model = network(args.drop_input, args.drop_hidden)
    began = time.perf_counter()
    start(model, args, x)
    started = time.perf_counter()
    fine_tune(model, x, y, args)
    ended = time.perf_counter()
    held_out = "validation" if args.validation else "test"
    print(
        f"{args.start}: {errors(model, x_test, y_test):.2f} % {held_out} errors; start "
        f"{(started - began) / 60:.1f} min, fine-tuning {(ended - started) / 60:.1f} min"
    )


if __name__ == "__main__":
    main()
