# SPDX-License-Identifier: Apache-2.0
"""The networks that the tests of gradient flow share."""

import dataclasses
import math

import torch
from torch import nn

import torch_init


def mlp(
    depth,
    width,
    activation,
    gain,
    *,
    inputs=None,
    classes=10,
    seed=0,
    distribution="normal",
    bias=True,
):
    """depth hidden layers, weights of variance gain / fan_in, zero biases; and a linear head."""
    layers = []
    for i in range(depth):
        fan_in = (inputs or width) if i == 0 else width
        linear = nn.Linear(fan_in, width, bias=bias)
        std = math.sqrt(gain / fan_in)
        if distribution == "normal":
            torch_init.normal_(linear.weight, std=std, seed=seed, name=f"{i}.weight")
        else:
            bound = math.sqrt(3) * std
            torch_init.uniform_(linear.weight, -bound, bound, seed=seed, name=f"{i}.weight")
        if bias:
            torch_init.zeros_(linear.bias)
        layers += [linear, activation()]
    head = nn.Linear(width, classes, bias=bias)
    torch_init.normal_(head.weight, std=1 / math.sqrt(width), seed=seed, name="head.weight")
    if bias:
        torch_init.zeros_(head.bias)
    return nn.Sequential(*layers, head)


def batch(model, samples=128, seed=0):
    """Normal inputs that fit the model's first layer, and labels."""
    first = next(m for m in model.modules() if isinstance(m, nn.Linear))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, first.in_features, generator=generator)
    return x, torch.arange(samples) % 10


def observe(model, x=None, y=None, *, scale=1.0, **options):
    """Watch one forward and backward pass and return the report."""
    if x is None:
        x, y = batch(model)
    with torch_init.watch(model, **options) as flow:
        (nn.functional.cross_entropy(model(x), y) * scale).backward()
    return flow.report()


class Odd(nn.Module):
    """A module that applies any function."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


class Residual(nn.Module):
    """x + branch(x), with or without a scale."""

    def __init__(self, *branch, scale=1.0):
        super().__init__()
        self.branch = nn.Sequential(*branch)
        self.scale = scale

    def forward(self, x):
        return x + self.scale * self.branch(x)


def residual_stack(depth, width, *, seed=0):
    """Residual blocks of two layers with He's variance, nothing normalised, nothing scaled."""
    blocks = []
    for i in range(depth):
        first, second = nn.Linear(width, width), nn.Linear(width, width)
        for name, linear in (("a", first), ("b", second)):
            torch_init.he_(linear.weight, seed=seed, name=f"{i}{name}")
            torch_init.zeros_(linear.bias)
        blocks.append(Residual(first, nn.ReLU(), second))
    return nn.Sequential(*blocks, nn.Linear(width, 10))


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple
    note: str = "text"


class Structured(nn.Module):
    """Returns a dict or a dataclass."""

    def __init__(self, kind):
        super().__init__()
        self.fc, self.kind = nn.Linear(8, 4), kind

    def forward(self, x):
        y = self.fc(x).tanh()
        if self.kind == "dict":
            return {"logits": y, "aux": [y * 2, None, 3]}
        return Output(y, (y * 2,))


def without(model, *places):
    """A sequence without the layers at these places."""
    return nn.Sequential(*[layer for place, layer in enumerate(model) if place not in places])


def kinds(report):
    return [v.kind for v in report.verdicts]


def rows_of(report):
    return {row.layer: row for row in report.rows}
