# SPDX-License-Identifier: Apache-2.0
"""Healthy networks of the usual architectures, in small: no verdict may be given on them."""

import importlib.util

import torch
from flow_networks import Residual, batch, mlp
from torch import nn

import torch_init


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


class DiffusionBlock(nn.Module):
    """A residual block of ADM: its last convolution begins at zero (Dhariwal & Nichol 2021)."""

    def __init__(self, inputs, outputs, embedding):
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(4, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * outputs))
        self.norm = nn.GroupNorm(4, outputs)
        self.last = nn.Sequential(nn.SiLU(), zeroed(nn.Conv2d(outputs, outputs, 3, padding=1)))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, embedding):
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, 1)
        return self.skip(x) + self.last(self.norm(self.first(x)) * (1 + scale) + shift)


class DiffusionAttention(nn.Module):
    """Attention over the plane, whose projection begins at zero."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.qkv = nn.GroupNorm(4, width), nn.Conv1d(width, 3 * width, 1)
        self.project = zeroed(nn.Conv1d(width, width, 1))

    def forward(self, x):
        flat = x.flatten(2)
        q, k, v = self.qkv(self.norm(flat)).transpose(1, 2).unflatten(2, (3, 4, -1)).unbind(2)
        heads = nn.functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)))
        return x + self.project(heads.transpose(1, 2).flatten(2).transpose(1, 2)).view_as(x)


class DiffusionUNet(nn.Module):
    """ADM's U-Net in small: every branch, and the output, ends in a convolution of zeros."""

    def __init__(self, width=16):
        super().__init__()
        block = DiffusionBlock
        self.time = nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width)
        )
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList([block(width, width, 4 * width)])
        self.shrink = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.middle = nn.ModuleList([block(2 * width, 2 * width, 4 * width) for _ in range(2)])
        self.attention = DiffusionAttention(2 * width)
        self.up = nn.ModuleList([block(3 * width, width, 4 * width)])
        self.leave = nn.Sequential(
            nn.GroupNorm(4, width), nn.SiLU(), zeroed(nn.Conv2d(width, 3, 3, padding=1))
        )

    def forward(self, x, t):
        embedding = self.time(t)
        x = skip = self.down[0](self.enter(x), embedding)
        x = self.attention(self.middle[0](self.shrink(x), embedding))
        x = nn.functional.interpolate(self.middle[1](x, embedding), scale_factor=2)
        return self.leave(self.up[0](torch.cat([x, skip], 1), embedding))


def zeroed(module):
    for parameter in module.parameters():
        torch_init.zeros_(parameter)
    return module


def generator(width=32, latent=64, seed=0):
    """DCGAN's generator with its own initialisation, N(0, 0.02) and N(1, 0.02)."""
    layers, inputs = [], latent
    for place, outputs in enumerate((4 * width, 2 * width, width)):
        stride, padding = (2, 1) if place else (1, 0)
        layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False))
        layers += [nn.BatchNorm2d(outputs), nn.ReLU(True)]
        inputs = outputs
    model = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh())
    for name, module in model.named_modules():
        if hasattr(module, "weight"):
            mean = float(isinstance(module, nn.BatchNorm2d))
            torch_init.normal_(module.weight, mean, 0.02, seed=seed, name=name)
    return model


def pre_norm_mlp(depth=24, width=64):
    blocks = [
        Residual(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        for _ in range(depth)
    ]
    return nn.Sequential(*blocks, nn.LayerNorm(width), nn.Linear(width, 10))


class Recurrent(nn.Module):
    """An LSTM over 12 steps, and a layer on its last state."""

    def __init__(self, width=32):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, width, 2, batch_first=True), nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def gpt2():
    import transformers

    size = {"vocab_size": 100, "n_positions": 64, "n_embd": 64, "n_layer": 4, "n_head": 4}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**size))


def _language(model):
    tokens = torch.randint(0, 100, (8, 32))
    return model, {"input_ids": tokens, "labels": tokens}, lambda output: output.loss


def _perceptron(*arguments, **options):
    def make(seed):
        model = mlp(*arguments, seed=seed, **options)
        return model, *batch(model, seed=seed)

    return make


def _pictures(make):
    return lambda seed: (make(), torch.randn(16, 3, 16, 16), torch.arange(16) % 10)


HEALTHY = {
    "he-relu": _perceptron(30, 256, nn.ReLU, 2.0),
    "xavier-tanh": _perceptron(10, 256, nn.Tanh, 1.0),
    "lecun-selu": _perceptron(10, 256, nn.SELU, 1.0),
    "gelu": _perceptron(8, 128, nn.GELU, 2.35),
    "torch-default-3": _perceptron(3, 64, nn.ReLU, 1 / 3, distribution="uniform"),
    "resnet": _pictures(resnet),
    "vit": _pictures(ViT),
    "unet": _pictures(UNet),
    "transformer": lambda seed: (
        Transformer(),
        torch.randint(0, 100, (32, 8)),
        torch.arange(32) % 10,
    ),
    "pre-ln-mlp": lambda seed: (pre_norm_mlp(), torch.randn(64, 64), torch.arange(64) % 10),
    "lstm": lambda seed: (Recurrent(), torch.randn(32, 12, 8), torch.arange(32) % 10),
    "dcgan": lambda seed: (generator(seed=seed), torch.randn(16, 64, 1, 1), None),
    "diffusion": lambda seed: (
        DiffusionUNet(),
        (torch.randn(8, 3, 16, 16), torch.randn(8, 16)),
        torch.randn(8, 3, 16, 16),
    ),
}
"""Functions of a seed that return a model, inputs and a loss for torch_init.check()."""
if importlib.util.find_spec("transformers"):
    HEALTHY["gpt2"] = lambda seed: _language(gpt2())


def healthy(name, seed):
    torch.manual_seed(seed)
    return HEALTHY[name](seed)
