# SPDX-License-Identifier: Apache-2.0
"""Vanishing and exploding along the depth: named where it begins, with what to expect."""

import pytest
import torch
from flow_networks import batch, kinds, mlp, observe, residual_stack, without
from flow_zoo import resnet
from torch import nn

import torch_init
from torch_init.flow import Thresholds


def test_twenty_sigmoid_layers_vanish():
    report = observe(mlp(20, 256, nn.Sigmoid, 1.0))
    verdict = report.verdict
    assert (verdict.kind, verdict.layer, verdict.severity) == ("vanishing", "0", "error")
    assert "0.23" in verdict.measured and "over 20 layers" in verdict.measured
    assert "0.23" in verdict.expected
    assert "1/4" in verdict.suggestion and "torch_init.he_" in verdict.suggestion
    assert "collapsed" in kinds(report)


def test_relu_with_xavier_is_told_to_use_he():
    verdict = observe(mlp(30, 256, nn.ReLU, 1.0)).verdict
    assert (verdict.kind, verdict.layer) == ("vanishing", "0")
    assert "0.70" in verdict.expected or "0.71" in verdict.expected
    assert "1 / fan_in, where 2 / fan_in" in verdict.cause
    assert "torch_init.he_(weight)" in verdict.suggestion


def test_the_suggestion_works():
    model = mlp(30, 256, nn.ReLU, 1.0)
    for place, layer in enumerate(model):
        if isinstance(layer, nn.Linear):
            torch_init.he_(layer.weight, seed=0, name=str(place))
    assert kinds(observe(model)) == ["ok"]


def test_tanh_with_unit_normal_weights_explodes_and_saturates():
    report = observe(mlp(10, 256, nn.Tanh, 256.0))
    assert kinds(report) == ["exploding", "saturated"]
    assert {v.layer for v in report.verdicts} == {"0"}
    assert "torch_init.xavier_" in report.verdict.suggestion


def test_unscaled_residual_stack_explodes():
    verdict = observe(residual_stack(30, 64)).verdict
    assert (verdict.kind, verdict.layer) == ("exploding", "0.branch.0")
    assert "residual branch" in verdict.suggestion


def test_scaled_residual_stack_is_healthy():
    stack = residual_stack(30, 64)
    for block in stack[:-1]:
        block.scale = 30**-0.5
    assert kinds(observe(stack)) == ["ok"]


def test_all_activations_forgotten_explodes():
    model = without(mlp(30, 64, nn.ReLU, 2.0), *range(1, 60, 2))
    verdict = observe(model).verdict
    assert verdict.kind == "exploding"
    assert "1 / fan_in keeps the size without a nonlinearity" in verdict.cause


def test_a_layer_that_cuts_the_gradient_down_is_the_one_that_is_named():
    model = mlp(6, 128, nn.ReLU, 2.0)
    with torch.no_grad():
        model[8].weight.mul_(1e-9)
    verdict = observe(model).verdict
    # The gradient is whole at layer 8's output and small at the one before it.
    assert (verdict.kind, verdict.layer) == ("vanishing", "6")
    assert "lost at `6`" in verdict.cause


def test_the_variance_for_a_leaky_relu_depends_on_its_slope():
    verdict = observe(mlp(30, 64, lambda: nn.LeakyReLU(0.5), 0.5)).verdict
    assert verdict.kind == "vanishing" and "2 / (1 + slope^2) / fan_in" in verdict.cause


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(1e-6 * torch.randn(1, 64))

    def forward(self):
        return self.table


class LayerScale(nn.Module):
    """x + 1e-5 * branch(x), after a first layer and a table of positions."""

    def __init__(self, depth):
        super().__init__()
        self.first, self.table, self.head = nn.Linear(64, 64), Table(), nn.Linear(64, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))
            for _ in range(depth)
        )
        self.gammas = nn.ParameterList(torch.full((64,), 1e-5) for _ in range(depth))

    def forward(self, x):
        x = self.first(x) + self.table()
        for block, gamma in zip(self.blocks, self.gammas, strict=True):
            x = x + gamma * block(x)
        return self.head(x)


@pytest.mark.parametrize("depth", [1, 2, 12])
def test_trunk_and_scaled_branches_are_not_compared(depth):
    torch.manual_seed(0)
    model = LayerScale(depth)
    report = observe(model, *batch(model))
    assert kinds(report) == ["ok"]
    assert {row.layer for row in report.weighted if not row.is_bypassed} == {"first", "head"} | (
        {"table"} & {row.layer for row in report.weighted}
    )


def test_the_many_last_calls_of_a_loop_are_no_cliff():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.Linear(64, 64, bias=False), nn.Linear(64, 10)
            torch_init.orthogonal_(self.cell.weight, seed=0, name="cell")

        def forward(self, x):
            for _ in range(50):
                x = self.cell(x)
            return self.head(x)

    torch.manual_seed(0)
    model = Loop()
    report = observe(model, *batch(model))
    assert [row.layer for row in report.depth] == ["cell", *(f"cell#{i}" for i in range(1, 7))]


def test_what_was_not_judged_is_said():
    report = observe(mlp(1, 64, nn.ReLU, 2.0))
    assert kinds(report) == ["ok"]
    assert "not judged, as there is one layer with weights before" in report.verdict.measured
    with torch_init.watch(model := mlp(3, 64, nn.ReLU, 2.0)) as flow:
        model(batch(model)[0])
    assert "no backward pass was seen" in flow.report().verdict.measured


def test_why_a_residual_network_that_begins_at_zero_was_not_judged():
    model = resnet(4, (1, 1))
    for name, parameter in model.named_parameters():
        if name.endswith("bn2.weight"):
            torch_init.zeros_(parameter)
    report = observe(model, torch.randn(32, 3, 8, 8), torch.arange(32) % 10)
    assert kinds(report) == ["ok"] and report.slope is None
    assert "none reaches 4 of 5 layers yet: weights after them begin at zero" in str(report.verdict)


def test_why_two_layers_of_a_compiled_model_were_not_judged():
    model = torch.compile(mlp(2, 16, nn.ReLU, 2.0), backend="aot_eager")
    with torch_init.watch(model) as flow:
        nn.functional.cross_entropy(model(torch.randn(8, 16)), torch.arange(8)).backward()
    assert "where the graph is not known (here: 2)" in flow.report().verdict.measured


def test_an_ordinary_network_of_three_layers_is_judged():
    model = mlp(2, 64, nn.ReLU, 2.0)
    report = torch_init.check(model, *batch(model), verbose=False)
    assert report.slope.layers == 2 and report.slope.fit_error < 1e-12
    # Two layers, each of sqrt(2 / 64) scatter in ln of a square: a factor of 1.5 is three of them.
    assert 1 / 1.5 < report.slope.factor < 1.5
    measured = report.verdict.measured
    assert "over 2 layers" in measured and "not judged" not in measured
    assert f"first loss {report.initial_loss.value:.3g}, of a guess 2.3" in measured
    torch_init.normal_(model[2].weight, std=1e-5, seed=0, name="2")
    verdict = observe(model).verdict
    assert (verdict.kind, verdict.layer) == ("vanishing", "0")


def test_two_layers_beside_each_other_are_no_depth():
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(8, 64), nn.Linear(8, 64), nn.Linear(64, 10)

        def forward(self, x):
            return self.head(torch.relu(self.a(x)) + 1e-6 * torch.relu(self.b(x)))

    model = Towers()
    report = observe(model, torch.randn(64, 8), torch.arange(64) % 10)
    assert report.slope is None and kinds(report) == ["ok"]
    assert "that all paths go through" in report.verdict.measured


def test_thresholds_decide():
    model = mlp(10, 256, nn.ReLU, 1.0)
    assert observe(model).verdict.kind == "ok"  # 0.71^9 = 0.04
    x, y = batch(model)
    with torch_init.watch(model) as flow:
        nn.functional.cross_entropy(model(x), y).backward()
    assert flow.report(Thresholds(vanish_total=0.1)).verdict.kind == "vanishing"
    with pytest.raises(ValueError, match="Thresholds: vanish_slope"):
        Thresholds(vanish_slope=0.1)
