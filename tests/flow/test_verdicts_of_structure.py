# SPDX-License-Identifier: Apache-2.0
"""What the graph alone shows: layers that are one linear map, losses that are misused."""

import pytest
import torch
from flow_networks import Odd, Residual, batch, kinds, mlp, observe
from torch import nn
from torch.nn import functional

import torch_init

LABELS = torch.arange(64) % 10
flat = nn.Sequential


def convolutional(*between, groups=1):
    first, second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3, groups=groups)
    last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return flat(nn.Unflatten(1, (1, 8, 8)), first, *between, second, *last)


class Both(nn.Module):
    """Returns what its layer is applied to, too."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x), x


LINEAR = {
    "two layers": lambda: flat(nn.Linear(64, 32), nn.Linear(32, 10)),
    "deep": lambda: mlp(6, 64, nn.Identity, 1.0),
    "reshaped": lambda: flat(
        nn.Unflatten(1, (8, 8)), nn.Linear(8, 16), nn.Flatten(), nn.Linear(128, 10)
    ),
    "batch norm": lambda: flat(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 10)),
    "residual": lambda: flat(nn.Linear(64, 64), Residual(nn.Linear(64, 64)), nn.Linear(64, 10)),
    "convolutions": convolutional,
    "scaled": lambda: flat(nn.Linear(64, 64), Odd(lambda x: x / 8), nn.Linear(64, 10)),
    "softmax at the end": lambda: flat(nn.Linear(64, 32), nn.Linear(32, 10), nn.Softmax(-1)),
    "log_softmax at the end": lambda: flat(nn.Linear(64, 32), nn.Linear(32, 10), nn.LogSoftmax(-1)),
    "sigmoid at the end": lambda: flat(
        nn.Linear(64, 32), nn.Linear(32, 10), nn.Sigmoid(), nn.Unflatten(1, (10, 1)), nn.Flatten()
    ),
}
NOT = {
    "one layer": lambda: flat(nn.Linear(64, 10)),
    "activation": lambda: flat(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
    "activation and softmax": lambda: flat(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.Softmax(-1)
    ),
    "softmax between": lambda: flat(nn.Linear(64, 32), nn.Softmax(-1), nn.Linear(32, 10)),
    "one layer and sigmoid": lambda: flat(nn.Linear(64, 10), nn.Sigmoid()),
    "hidden states returned": lambda: flat(
        nn.Linear(64, 32), nn.ReLU(), Both(nn.Linear(32, 10))
    ),
    "function": lambda: flat(nn.Linear(64, 32), Odd(torch.sin), nn.Linear(32, 10)),
    "by hand": lambda: flat(nn.Linear(64, 32), Odd(lambda x: x * (x > 0)), nn.Linear(32, 10)),
    "straight through": lambda: flat(
        nn.Linear(64, 32), Odd(lambda x: x + (x.sign() - x).detach()), nn.Linear(32, 10)
    ),
    "gate": lambda: flat(
        nn.Linear(64, 64), Odd(lambda x: x[:, :32] * x[:, 32:]), nn.Linear(32, 10)
    ),
    "layer norm": lambda: flat(nn.Linear(64, 32), nn.LayerNorm(32), nn.Linear(32, 10)),
    "low rank": lambda: flat(nn.Linear(64, 4, bias=False), nn.Linear(4, 10)),
    "linear autoencoder": lambda: flat(nn.Linear(64, 8), nn.Linear(8, 64)),
    "adapter": lambda: Residual(nn.Linear(64, 4), nn.Linear(4, 64)),
    "embedding": lambda: flat(
        Odd(lambda x: x.abs().long()), nn.Embedding(9, 16), nn.Linear(16, 10),
        Odd(lambda x: x.mean(1)),
    ),
    "pooled": lambda: convolutional(nn.MaxPool2d(2)),
    "grouped": lambda: convolutional(groups=8),
    "instance norm": lambda: convolutional(nn.InstanceNorm2d(8)),
    "factorised convolution": lambda: flat(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.Conv2d(8, 10, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ),
    "recurrent": lambda: flat(
        nn.Unflatten(1, (8, 8)), nn.RNN(8, 16, batch_first=True), Odd(lambda x: x[0][:, -1]),
        nn.Linear(16, 10),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_layers_that_are_one_linear_map_are_told(name):
    torch.manual_seed(0)
    report = observe(LINEAR[name](), torch.randn(64, 64), LABELS)
    verdict = next(v for v in report.verdicts if v.kind == "no_nonlinearity")
    assert (verdict.severity, verdict.layer) == ("warning", report.weighted[0].layer)
    assert f"`{report.weighted[-1].layer}`: together they are one linear map" in verdict.measured
    with pytest.raises(torch_init.flow.UnhealthyModelError, match="no_nonlinearity"):
        report.assert_healthy()


@pytest.mark.parametrize("name", NOT)
def test_others_are_not(name):
    torch.manual_seed(0)
    model = NOT[name]()
    x = torch.randn(64, 64)
    with torch_init.watch(model) as flow:
        output = model(x)
        (output[0] if isinstance(output, tuple) else output).square().mean().backward()
    assert "no_nonlinearity" not in kinds(flow.report())


def test_one_layer_whose_weight_is_computed_is_one_layer():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(64, 10))
    assert "no_nonlinearity" not in kinds(observe(flat(layer), torch.randn(64, 64), LABELS))


def classifier(*last):
    model = mlp(2, 64, nn.ReLU, 2.0)
    return flat(*model, *last)


@pytest.mark.parametrize(
    ("last", "loss", "wanted"),
    [
        (nn.Softmax(1), LABELS, "cross_entropy is given what softmax"),
        (nn.Sigmoid(), LABELS, "cross_entropy is given what sigmoid"),
        (nn.Softmax(1), lambda p: functional.nll_loss(p, LABELS), "nll_loss is given what softmax"),
        (
            nn.Softmax(1),
            lambda p: 0.5 * functional.cross_entropy(p, LABELS, label_smoothing=0.1),
            "cross_entropy is given what softmax",
        ),
        (
            nn.Sigmoid(),
            lambda p: functional.binary_cross_entropy_with_logits(p, torch.ones_like(p)),
            "binary_cross_entropy_with_logits is given what sigmoid",
        ),
        (
            nn.Softmax(1),
            lambda p: functional.cross_entropy(p.view(8, 8, 10).mT, LABELS.view(8, 8)),
            "cross_entropy is given what softmax",
        ),
    ],
)
def test_probabilities_where_logits_are_wanted(last, loss, wanted):
    model = classifier(last)
    report = torch_init.check(model, batch(model, 64)[0], loss, verbose=False)
    verdict = report.verdict
    assert (verdict.kind, verdict.layer, verdict.severity) == ("loss_mismatch", "5", "warning")
    assert verdict.measured.startswith(wanted)


@pytest.mark.parametrize(
    ("last", "loss"),
    [
        (nn.LogSoftmax(1), LABELS),  # applied twice it is what it is once
        (nn.LogSoftmax(1), lambda p: functional.nll_loss(p, LABELS)),
        (nn.Softmax(1), lambda p: functional.nll_loss(p.log(), LABELS)),
        (nn.Softmax(1), lambda p: functional.cross_entropy(p / 0.05, LABELS)),
        (nn.Sigmoid(), lambda p: functional.binary_cross_entropy(p, torch.ones_like(p))),
        (nn.Softmax(1), torch.ones(64, 10) / 10),
        (nn.Identity(), LABELS),
    ],
)
def test_other_losses_are_left_alone(last, loss):
    model = classifier(last)
    report = torch_init.check(model, batch(model, 64)[0], loss, verbose=False)
    assert "loss_mismatch" not in kinds(report)


def test_a_function_names_no_layer():
    model = classifier(Odd(lambda x: x.softmax(1)))
    verdict = torch_init.check(model, batch(model, 64)[0], LABELS, verbose=False).verdict
    assert (verdict.kind, verdict.layer) == ("loss_mismatch", "")
