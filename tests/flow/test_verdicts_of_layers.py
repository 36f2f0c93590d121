# SPDX-License-Identifier: Apache-2.0
"""Faults of single layers: forgotten activations, saturation, collapse, dead units."""

import math

import pytest
import torch
from flow_networks import batch, kinds, mlp, observe, without
from torch import nn

import torch_init


@pytest.mark.parametrize("place", [1, 3, 7])
def test_forgotten_activation_is_named(place):
    model = without(mlp(6, 128, nn.ReLU, 2.0), place)
    verdict = observe(model).verdict
    assert (verdict.kind, verdict.layer) == ("init_mismatch", str(place - 1))
    assert "activation" in verdict.cause


def test_a_linear_bottleneck_is_no_forgotten_activation():
    model = mlp(4, 64, nn.ReLU, 2.0)
    down, up = nn.Linear(64, 16), nn.Linear(16, 64)
    for place, linear in enumerate((down, up)):
        torch_init.he_(linear.weight, seed=0, name=str(place))
    model = nn.Sequential(*model[:4], down, up, nn.ReLU(), *model[4:])
    assert kinds(observe(model)) == ["ok"]


def test_a_hidden_factor_in_the_forward_pass_is_a_mismatch():
    class Hidden(nn.Module):
        def forward(self, x):
            x.data.mul_(5)  # past autograd: the graph shows nothing
            return x

    model = mlp(4, 128, nn.Identity, 1.0)
    assert "init_mismatch" not in kinds(observe(model))
    model[5] = Hidden()
    verdict = next(v for v in observe(model).verdicts if v.kind == "init_mismatch")
    assert verdict.layer == "6"


def test_trained_weights_are_not_judged_as_a_start():
    model = mlp(3, 64, nn.ReLU, 1 / 3)
    x, y = batch(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    report = torch_init.check(model, x, y, verbose=False)
    assert report.weighted[-1].rms > 4 * report.weighted[-1].expected_rms
    assert kinds(report) == ["ok"]


def test_a_sure_classifier_is_not_saturated():
    model = nn.Sequential(*mlp(3, 64, nn.ReLU, 2.0), nn.Sigmoid())
    with torch.no_grad():
        model[-2].weight.mul_(30)
    report = torch_init.check(model, batch(model)[0], verbose=False)
    assert report.rows[-1].saturated > 0.5 and kinds(report) == ["ok"]


def test_saturated_functional_tanh():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(mlp(4, 64, nn.Tanh, 64.0)[::2])

        def forward(self, x):
            for layer in self.layers[:-1]:
                x = torch.tanh(layer(x))
            return self.layers[-1](x)

    report = observe(Net())
    assert "saturated" in kinds(report)


def test_a_batch_of_copies_is_not_the_models_collapse():
    model = mlp(4, 64, nn.ReLU, 2.0)
    x, y = batch(model)
    assert kinds(observe(model, x[:1].expand(128, -1), y)) == ["ok"]


def test_a_constant_side_branch_is_no_collapse():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.kinds, self.body = nn.Embedding(2, 64), mlp(4, 64, nn.ReLU, 2.0)

        def forward(self, x):
            return self.body(x + self.kinds(torch.zeros(len(x), dtype=torch.long)))

    model = Net()
    assert kinds(observe(model, *batch(model.body))) == ["ok"]


@pytest.mark.parametrize("functional", [False, True])
def test_a_norm_that_turns_units_off_is_named(functional):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.last = (
                nn.Linear(64, 64),
                nn.LayerNorm(64),
                nn.Linear(64, 10),
            )
            self.relu = torch.relu if functional else nn.ReLU()
            torch_init.constant_(self.norm.bias, -10.0)

        def forward(self, x):
            return self.last(self.relu(self.norm(self.first(x))))

    model = Net()
    verdict = observe(model, *batch(model)).verdict
    assert (verdict.kind, verdict.layer, verdict.severity) == ("dead", "norm", "error")


@pytest.mark.parametrize("value", [math.inf, math.nan, 1e30])
def test_weights_beyond_all_bounds_are_judged_without_an_error(value):
    model = mlp(4, 64, nn.ReLU, 2.0)
    with torch.no_grad():
        model[2].weight[0, 0] = value
    report = torch_init.check(model, *batch(model), verbose=False)
    assert report.verdict.severity != "ok"
    assert report.verdict.kind == "non_finite" or value == 1e30
