# SPDX-License-Identifier: Apache-2.0
"""Each fault gets its verdict, at the right layer, with an expectation, a cause and a way out."""

import pytest
import torch
from flow_networks import Odd, Residual, batch, mlp, observe, residual_stack
from torch import nn

import torch_init
from torch_init.flow import Thresholds, UnhealthyModelError


def without(model, *places):
    return nn.Sequential(*[layer for place, layer in enumerate(model) if place not in places])


def kinds(report):
    return [v.kind for v in report.verdicts]


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


def test_all_activations_forgotten_explodes():
    model = without(mlp(30, 64, nn.ReLU, 2.0), *range(1, 60, 2))
    verdict = observe(model).verdict
    assert verdict.kind == "exploding"
    assert "1 / fan_in keeps the size without a nonlinearity" in verdict.cause


def test_a_hidden_factor_in_the_forward_pass_is_a_mismatch():
    class Hidden(nn.Module):
        def forward(self, x):
            x.data.mul_(5)  # past autograd: the graph shows nothing
            return x

    model = mlp(4, 128, nn.Identity, 1.0)
    assert kinds(observe(model)) == ["ok"]
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


def test_a_layer_that_cuts_the_gradient_down_is_the_one_that_is_named():
    model = mlp(6, 128, nn.ReLU, 2.0)
    with torch.no_grad():
        model[8].weight.mul_(1e-9)
    verdict = observe(model).verdict
    # The gradient is whole at layer 8's output and small at the one before it.
    assert (verdict.kind, verdict.layer) == ("vanishing", "6")
    assert "lost at `6`" in verdict.cause


def test_residual_branches_that_begin_at_zero_are_no_fault():
    blocks = []
    for _ in range(6):
        last = nn.Linear(64, 64)
        torch_init.zeros_(last.weight)
        torch_init.zeros_(last.bias)
        blocks.append(Residual(nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU(), last))
    model = nn.Sequential(nn.Linear(64, 64), *blocks, nn.Linear(64, 10))
    assert observe(model).verdict.kind == "ok"


def test_a_head_of_zeros_is_information():
    model = mlp(4, 64, nn.ReLU, 2.0)
    torch_init.zeros_(model[-1].weight)
    report = observe(model)
    assert [(v.kind, v.severity, v.layer) for v in report.verdicts if v.kind != "ok"] == [
        ("zero_signal", "info", "8")
    ]
    report.assert_healthy()


class Gated(nn.Module):
    """A block of DiT with adaLN-zero: a layer of zeros gives its branch scale, shift and gate."""

    def __init__(self):
        super().__init__()
        self.modulation, self.norm = nn.Linear(64, 192), nn.LayerNorm(64, elementwise_affine=False)
        self.branch = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64))

    def forward(self, x, condition):
        scale, shift, gate = self.modulation(condition).chunk(3, -1)
        return x + gate * self.branch(self.norm(x) * (1 + scale) + shift)


class Diffusion(nn.Module):
    """Blocks that begin as the identity, and an output layer of zeros."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)
        self.blocks = nn.ModuleList(Gated() for _ in range(4))
        for layer in (self.last, *(block.modulation for block in self.blocks)):
            torch_init.zeros_(layer.weight)
            torch_init.zeros_(layer.bias)

    def forward(self, x):
        condition, x = x, self.first(x)
        for block in self.blocks:
            x = block(x, condition)
        return self.last(x)


@pytest.mark.parametrize("samples", [1, 32])
def test_zeros_in_gates_and_in_the_output_are_no_fault(samples):
    report = torch_init.check(Diffusion(), torch.randn(samples, 64), verbose=False)
    assert report.verdict.kind == "ok"
    assert [v.layer for v in report.verdicts if v.kind == "zero_signal"] == ["last"]


def test_an_adapter_of_zeros_is_no_fault():
    class Adapted(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base.requires_grad_(False)
            self.a, self.b = nn.Linear(64, 4, bias=False), nn.Linear(4, 64, bias=False)
            torch_init.zeros_(self.b.weight)

        def forward(self, x):
            return self.base(x) + self.b(self.a(x))

    model = mlp(3, 64, nn.ReLU, 2.0, classes=64)
    model = nn.Sequential(*[Adapted(m) if isinstance(m, nn.Linear) else m for m in model])
    assert torch_init.check(model, torch.randn(32, 64), verbose=False).verdict.kind == "ok"


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


def test_updates_as_large_as_the_weights():
    model = mlp(2, 64, nn.ReLU, 2.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    x, y = batch(model)
    with torch_init.watch(model, optimizer) as flow:
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    verdict = flow.report().verdict
    assert (verdict.kind, verdict.layer) == ("update_too_large", "4.weight")
    assert "learning rate" in verdict.suggestion


def test_a_layer_that_hardly_moves():
    model = mlp(2, 64, nn.ReLU, 2.0)
    slow = {"params": [model[2].weight], "lr": 1e-9}
    others = [p for p in model.parameters() if p is not model[2].weight]
    optimizer = torch.optim.Adam([slow, {"params": others}], lr=1e-3)
    x, y = batch(model)
    with torch_init.watch(model, optimizer) as flow:
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert (flow.report().verdict.kind, flow.report().verdict.layer) == (
        "update_too_small",
        "2.weight",
    )


def stepped(model, optimizer, *arguments):
    with torch_init.watch(model, optimizer) as flow:
        model(*arguments).float().square().mean().backward()
        optimizer.step()
    return flow.report()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_learning_rate_of_zero_is_not_lost_in_rounding(dtype):
    model = mlp(2, 64, nn.ReLU, 2.0).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    assert kinds(stepped(model, optimizer, batch(model)[0].to(dtype))) == ["ok"]


def test_updates_lost_in_rounding_are_named():
    model = mlp(2, 64, nn.ReLU, 2.0).to(torch.bfloat16)
    slow = {"params": [model[2].weight], "lr": 1e-9}
    others = [p for p in model.parameters() if p is not model[2].weight]
    optimizer = torch.optim.Adam([slow, {"params": others}], lr=1e-3)
    verdict = stepped(model, optimizer, batch(model)[0].to(torch.bfloat16)).verdict
    assert (verdict.kind, verdict.layer) == ("update_too_small", "2.weight")
    assert "rounding to bfloat16" in verdict.cause


def test_a_table_of_which_few_rows_were_looked_up_is_no_slow_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50_000, 16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert kinds(stepped(model, optimizer, torch.arange(8))) == ["ok"]


def test_what_was_not_judged_is_said():
    report = observe(mlp(2, 64, nn.ReLU, 2.0))
    assert kinds(report) == ["ok"] and "not judged" in report.verdict.measured
    assert "not judged" not in observe(mlp(4, 64, nn.ReLU, 2.0)).verdict.measured


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


def test_the_variance_for_a_leaky_relu_depends_on_its_slope():
    verdict = observe(mlp(30, 64, lambda: nn.LeakyReLU(0.5), 0.5)).verdict
    assert verdict.kind == "vanishing" and "2 / (1 + slope^2) / fan_in" in verdict.cause


def test_every_sentence_is_whole():
    faults = [
        mlp(20, 64, nn.Sigmoid, 1.0),
        mlp(10, 128, nn.Tanh, 128.0),
        residual_stack(30, 64),
        without(mlp(6, 128, nn.ReLU, 2.0), 3),
        nn.Sequential(mlp(4, 64, nn.ReLU, 2.0)[:6], Odd(lambda x: x / 0), nn.Linear(64, 10)),
    ]
    for model in faults:
        for verdict in observe(model).verdicts:
            text = str(verdict)
            assert text.startswith(verdict.kind) and text.endswith(".")
            assert ".." not in text and "None" not in text and "  " not in text
            assert verdict.layer and verdict.measured and verdict.cause and verdict.suggestion
            assert verdict.expected


def test_no_forward_pass_is_not_healthy():
    with torch_init.watch(mlp(2, 8, nn.ReLU, 2.0)) as flow:
        pass
    report = flow.report()
    assert kinds(report) == ["no_data"]
    with pytest.raises(UnhealthyModelError, match="no forward pass"):
        report.assert_healthy()


def test_assert_healthy_can_ignore():
    report = observe(mlp(10, 256, nn.Tanh, 256.0))
    with pytest.raises(UnhealthyModelError, match="saturated"):
        report.assert_healthy(ignore=["exploding"])
    report.assert_healthy(ignore=("exploding", "saturated"))
    with pytest.raises(ValueError, match=r"Report\.assert_healthy: ignore"):
        report.assert_healthy(ignore=["sleeping"])


def test_thresholds_decide():
    model = mlp(10, 256, nn.ReLU, 1.0)
    assert observe(model).verdict.kind == "ok"  # 0.71^9 = 0.04
    x, y = batch(model)
    with torch_init.watch(model) as flow:
        nn.functional.cross_entropy(model(x), y).backward()
    assert flow.report(Thresholds(vanish_total=0.1)).verdict.kind == "vanishing"
    with pytest.raises(ValueError, match="Thresholds: vanish_slope"):
        Thresholds(vanish_slope=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_gradients_that_are_all_zero_are_an_error(dtype):
    model = mlp(4, 64, nn.ReLU, 2.0).to(dtype)
    x, y = batch(model)
    scale = 0.0 if dtype == torch.float32 else 1e-6  # 1e-6 over 128 examples rounds to 0
    with torch_init.watch(model) as flow:
        (nn.functional.cross_entropy(model(x.to(dtype)), y) * scale).backward()
    verdict = flow.report().verdict
    assert (verdict.kind, verdict.severity) == ("zero_gradient", "error")
    assert ("float16" in verdict.cause) == (dtype == torch.float16)
