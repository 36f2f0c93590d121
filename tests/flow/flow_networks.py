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


class BasicBlock(nn.Module):
    """A block of ResNet-18: two 3 x 3 convolutions with batch normalisation, and a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return self.relu(out)


def resnet(width=16, blocks=(2, 2, 2)):
    """A small ResNet, initialised as torchvision's are: He's fan_out for convolutions."""
    layers = [
        nn.Conv2d(3, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]
    inputs = width
    for stage, count in enumerate(blocks):
        for i in range(count):
            outputs = width * 2**stage
            layers.append(BasicBlock(inputs, outputs, 2 if stage and i == 0 else 1))
            inputs = outputs
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            torch_init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", seed=0, name=name
            )
    return model


class Transformer(nn.Module):
    """A pre-LN transformer encoder with PyTorch's own initialisation."""

    def __init__(self, layers=6, width=64):
        super().__init__()
        self.embed = nn.Embedding(100, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), False)
        self.head = nn.Linear(width, 10)

    def forward(self, tokens):
        return self.head(self.encoder(self.embed(tokens)).mean(1))


class ViT(nn.Module):
    """A vision transformer of 4 x 4 patches, its linear layers from a truncated N(0, 0.02)."""

    def __init__(self, layers=6, width=64):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 16, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), False)
        self.head = nn.Linear(width, 10)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                torch_init.trunc_normal_(module.weight, std=0.02, seed=0, name=name)
                torch_init.zeros_(module.bias)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.encoder(x)).mean(1)


class UNet(nn.Module):
    """Two levels down and up with skips, and an average over the plane for ten classes."""

    def __init__(self, width=16):
        super().__init__()

        def double(inputs, outputs):
            layers = []
            for size in (inputs, outputs):
                layers += [nn.Conv2d(size, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
                layers.append(nn.ReLU(True))
            return nn.Sequential(*layers)

        self.down = nn.ModuleList([double(3, width), double(width, 2 * width)])
        self.middle = double(2 * width, 4 * width)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, 2) for n in (2 * width, width))
        self.merge = nn.ModuleList(double(2 * n, n) for n in (2 * width, width))
        self.out = nn.Conv2d(width, 10, 1)

    def forward(self, x):
        skips = []
        for block in self.down:
            skips.append(block(x))
            x = nn.functional.max_pool2d(skips[-1], 2)
        x = self.middle(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], 1))
        return self.out(x).mean((2, 3))


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
