# SPDX-License-Identifier: Apache-2.0
"""torch_init where torch.nn.init was: models written with either, and torch's own modules."""

import math

import pytest
import torch
from torch import nn

import torch_init as init
from torch_init import calculate_gain


@pytest.fixture
def patched(monkeypatch):
    """torch.nn.init's functions are torch_init's, for the modules that call them by name."""
    for name in [*nn.init.__all__, "_calculate_fan_in_and_fan_out", "_calculate_correct_fan"]:
        monkeypatch.setattr(nn.init, name, getattr(init, name))


MODULES = {
    "Linear": lambda: nn.Linear(30, 40),
    "Bilinear": lambda: nn.Bilinear(5, 6, 7),
    "Conv1d groups": lambda: nn.Conv1d(8, 12, 3, groups=4),
    "Conv2d bfloat16": lambda: nn.Conv2d(3, 8, 3, dtype=torch.bfloat16),
    "Conv3d": lambda: nn.Conv3d(3, 4, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(8, 4, 3),
    "LSTM": lambda: nn.LSTM(6, 8, 2, bidirectional=True, proj_size=3),
    "GRUCell": lambda: nn.GRUCell(5, 7),
    "MultiheadAttention": lambda: nn.MultiheadAttention(16, 4),
    "MultiheadAttention kdim": lambda: nn.MultiheadAttention(16, 4, kdim=8, vdim=6),
    "Embedding": lambda: nn.Embedding(20, 8, padding_idx=3),
    "EmbeddingBag": lambda: nn.EmbeddingBag(20, 8),
    "Transformer": lambda: nn.Transformer(16, 4, 1, 1, 32, batch_first=True),
    "BatchNorm2d": lambda: nn.BatchNorm2d(6),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Linear(5, 5)),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 7)),
}


@pytest.mark.parametrize("build", MODULES.values(), ids=MODULES.keys())
def test_modules_of_torch_initialise_themselves(patched, build):
    torch.manual_seed(0)
    first = build().state_dict()
    torch.manual_seed(0)
    second = build().state_dict()
    for name, value in first.items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, second[name]), name


def test_patched_linear_has_the_bounds_of_torch(patched):
    """kaiming_uniform_(a=sqrt(5)) and the bias's bound, both 1 / sqrt(fan_in)."""
    layer = nn.Linear(100, 1000)
    for parameter in layer.parameters():
        assert 0.099 < parameter.abs().max() <= 0.1
    assert nn.Embedding(9, 4, padding_idx=3).weight[3].eq(0).all()


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_patched_modules_on_meta_and_with_empty_dimensions(patched):
    assert nn.Linear(3, 4, device="meta").weight.is_meta
    for sizes in ((0, 4), (4, 0)):
        assert nn.Linear(*sizes).weight.numel() == 0
    lazy = nn.LazyLinear(3)
    lazy(torch.zeros(2, 5))
    assert lazy.weight.std() > 0
    skipped = nn.utils.skip_init(nn.Linear, 3, 4)
    skipped.reset_parameters()
    assert torch.isfinite(skipped.weight).all()


class ResidualBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, signal):
        hidden = self.bn1(self.conv1(signal)).relu()
        return (self.bn2(self.conv2(hidden)) + self.shortcut(signal)).relu()


class ResNet(nn.Module):
    """As such models are written, with init for nn.init."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(ResidualBlock(16, 16, 1), ResidualBlock(16, 32, 2))
        self.head = nn.Linear(32, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    init.constant_(module.bias, 0)
            elif isinstance(module, nn.BatchNorm2d):
                init.ones_(module.weight)
                init.zeros_(module.bias)
            elif isinstance(module, ResidualBlock):
                init.zeros_(module.bn2.weight)
        init.xavier_(self.head.weight)
        init.zeros_(self.head.bias.data)

    def forward(self, image):
        return self.head(self.blocks(self.stem(image)).mean((2, 3)))


class LanguageModel(nn.Module):
    """A GPT in small: tied embeddings, packed attention, scaled residual projections."""

    def __init__(self, width=32, layers=2):
        super().__init__()
        self.embed = nn.Embedding(50, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 50, bias=False)
        self.head.weight = self.embed.weight
        self.apply(self.initialise)
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "linear2.weight")):
                init.normal_(parameter, mean=0.0, std=0.02 / math.sqrt(2 * layers))
            elif name.endswith("in_proj_weight"):
                for block in parameter.chunk(3):  # query, key, value: not one wide matrix
                    init.xavier_uniform_(block, gain=calculate_gain("linear"))

    @staticmethod
    def initialise(module):
        if isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=0.02)

    def forward(self, tokens):
        return self.head(self.body(self.embed(tokens)))


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (ResNet, lambda: torch.linspace(-1, 1, 2 * 3 * 64).view(2, 3, 8, 8)),
        (LanguageModel, lambda: torch.arange(20).view(2, 10)),
    ],
    ids=["ResNet", "LanguageModel"],
)
def test_model_trains_from_a_seed(model, batch):
    def train():
        torch.manual_seed(3)
        network = model()
        optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
        losses = []
        for _ in range(3):
            loss = network(batch()).square().mean() + network(batch()).logsumexp(-1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return losses

    losses = train()
    assert losses == train()
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


def test_gates_of_an_lstm():
    lstm = nn.LSTM(4, 6)
    for name, parameter in lstm.named_parameters():
        if "weight_hh" in name:
            for gate, block in enumerate(parameter.chunk(4)):
                init.orthogonal_(block, seed=0, name=f"{name}.{gate}")
        elif "weight_ih" in name:
            init.xavier_uniform_(parameter, seed=0, name=name)
        else:
            init.zeros_(parameter)
            init.ones_(parameter[6:12].detach())  # the forget gate
    for block in lstm.weight_hh_l0.detach().chunk(4):
        torch.testing.assert_close(block @ block.T, torch.eye(6), rtol=0, atol=2e-6)
    assert lstm.bias_hh_l0.tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 12


def test_a_model_by_names_does_not_depend_on_how_it_was_built():
    """Shared prefixes give the same values in a smaller model and in a half-precision one."""

    def fill(model):
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                init.xavier_(parameter, seed=7, name=name)
        return model

    small, large = fill(LanguageModel(layers=1)), fill(LanguageModel(layers=3))
    names = dict(large.named_parameters())
    for name, parameter in small.named_parameters():
        if parameter.dim() > 1:
            assert torch.equal(parameter, names[name]), name
    half = fill(LanguageModel(layers=1).bfloat16())
    for left, right in zip(half.parameters(), small.parameters(), strict=True):
        if left.dim() > 1:
            assert torch.equal(left, right.bfloat16())
