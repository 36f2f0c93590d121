# SPDX-License-Identifier: Apache-2.0
"""Cases whose outcome is exact: zeros, identical units, dead layers, Adam's first step."""

import math

import pytest
import torch
from flow_networks import batch, mlp, observe, residual_stack
from torch import nn
from torch.nn.functional import cross_entropy

import torch_init


def zero_(model):
    for parameter in model.parameters():
        torch_init.zeros_(parameter)
    return model


def train(model, steps, lr=0.1):
    x, y = batch(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("steps", [0, 20])
def test_zero_weights_pass_nothing(activation, steps):
    model = zero_(mlp(5, 64, activation, 1.0))
    train(model, steps)
    report = observe(model)
    assert all(row.gradient_norm == 0 for row in report.hidden)
    assert all(row.rms == 0 for row in report.hidden)
    assert report.weighted[-1].gradient_norm > 0
    verdict = report.verdict
    assert (verdict.kind, verdict.layer, verdict.severity) == ("zero_signal", "0", "error")
    assert "torch_init." in verdict.suggestion


def test_zero_weights_start_at_the_loss_of_a_guess():
    model = zero_(mlp(5, 64, nn.ReLU, 1.0))
    x, y = batch(model)
    assert cross_entropy(model(x), y).item() == pytest.approx(math.log(10), abs=1e-6)


def test_zero_weights_with_sigmoid_stay_symmetric():
    model = zero_(mlp(3, 64, nn.Sigmoid, 1.0))
    train(model, 20, lr=1.0)
    report = observe(model)
    assert report.weighted[1].unit_spread < 1e-5
    assert next(v.kind for v in report.verdicts if v.severity == "error") == "symmetric"


def test_constant_weights_are_symmetric():
    model = mlp(4, 64, nn.Tanh, 1.0)
    for parameter in model.parameters():
        torch_init.constant_(parameter, 0.1)
    report = observe(model)
    assert (report.verdict.kind, report.verdict.layer) == ("symmetric", "0")
    assert all(row.unit_spread < 1e-5 for row in report.hidden)
    assert all(row.unit_spread > 0.1 for row in observe(mlp(4, 64, nn.Tanh, 1.0)).hidden)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_dead_layer_is_named_and_no_other(layer):
    model = mlp(5, 64, nn.ReLU, 2.0)
    for place, module in enumerate(model[::2]):
        torch_init.normal_(module.bias, std=0.1, seed=0, name=str(place))
    torch_init.constant_(model[2 * (layer - 1)].bias, -10.0)
    report = observe(model)
    named = report.hidden[layer - 1]
    assert (report.verdict.kind, report.verdict.layer) == ("dead", named.layer)
    assert not [v for v in report.verdicts if v.severity == "error" and v.kind != "dead"]
    assert all(row.gradient_norm == 0 for row in report.hidden[:layer])
    after = model[2 * layer]
    assert not after.weight.grad.any()
    assert after.bias.grad.any()


def test_dead_layer_of_a_functional_relu():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(mlp(5, 64, nn.ReLU, 2.0)[::2])

        def forward(self, x):
            for layer in self.layers[:-1]:
                x = nn.functional.relu(layer(x))
            return self.layers[-1](x)

    model = Net()
    torch_init.constant_(model.layers[1].bias, -10.0)
    report = observe(model)
    assert (report.verdict.kind, report.verdict.layer) == ("dead", "layers.1")
    assert [row.nonlinearity for row in report.weighted] == ["relu"] * 5 + ["output"]


def test_adams_first_step_is_its_learning_rate():
    model = mlp(2, 512, nn.ReLU, 2.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = batch(model)
    with torch_init.watch(model, optimizer) as flow:
        cross_entropy(model(x), y).backward()
        optimizer.step()
    row = next(p for p in flow.report().parameters if p.name == "2.weight")
    # Adam's first update is lr g / (|g| + eps): lr wherever |g| is well above eps = 1e-8. The
    # weights' root mean square is that of 4096 of them: 1 % off at most.
    assert row.update_rms == pytest.approx(1e-3, rel=0.005)
    assert row.update_ratio == pytest.approx(1e-3 / math.sqrt(2 / 512), rel=0.03)
    assert flow.report().verdict.kind == "ok"


LOSS_SCALED = {
    "sigmoid": lambda: mlp(20, 128, nn.Sigmoid, 1.0),
    "he": lambda: mlp(20, 128, nn.ReLU, 2.0),
    "xavier": lambda: mlp(30, 128, nn.ReLU, 1.0),
    "zero": lambda: zero_(mlp(4, 64, nn.ReLU, 2.0)),
    "tanh-n01": lambda: mlp(10, 128, nn.Tanh, 128.0),
    "residual": lambda: residual_stack(20, 64),
}


@pytest.mark.parametrize("name", LOSS_SCALED)
def test_verdicts_do_not_depend_on_the_size_of_the_loss(name):
    kinds = []
    for scale in (1.0, 1e-6, 1e6):
        report = observe(LOSS_SCALED[name](), scale=scale)
        kinds.append([(v.kind, v.layer, v.severity) for v in report.verdicts])
    assert kinds[0] == kinds[1] == kinds[2]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_he_relu_thirty_layers_is_healthy(seed):
    report = observe(mlp(30, 512, nn.ReLU, 2.0, seed=seed))
    assert report.verdict.kind == "ok"
    # 20 to 40 % of the last layer's units are off for the whole batch, at a correct start.
    dead = report.rows[-2].dead
    assert 0.1 < dead < 0.5
    assert report.rows[-2].expected_dead == pytest.approx(dead, abs=0.15)
