# SPDX-License-Identifier: Apache-2.0
"""Weights and gradients of exactly zero: a fault where nothing goes around them."""

import pytest
import torch
from flow_networks import Residual, batch, mlp, observe
from flow_zoo import DiffusionUNet
from torch import nn

import torch_init


def test_residual_branches_that_begin_at_zero_are_no_fault():
    blocks = []
    for _ in range(6):
        last = nn.Linear(64, 64)
        torch_init.zeros_(last.weight)
        torch_init.zeros_(last.bias)
        blocks.append(Residual(nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU(), last))
    model = nn.Sequential(nn.Linear(64, 64), *blocks, nn.Linear(64, 10))
    assert observe(model).verdict.kind == "ok"


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_a_head_of_zeros_is_information(bias):
    model = mlp(4, 64, nn.ReLU, 2.0)
    torch_init.zeros_(model[-1].weight)
    torch_init.normal_(model[-1].bias, std=bias, seed=0, name="bias")
    report = observe(model)
    assert [(v.kind, v.severity, v.layer) for v in report.verdicts if v.kind != "ok"] == [
        ("zero_signal", "info", "8")
    ]
    report.assert_healthy()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
@pytest.mark.parametrize("first", [0, 6])
def test_layers_of_zeros_in_a_row_are_a_fault_whatever_their_biases(activation, first):
    model = mlp(8, 64, activation, 2.0)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linear):
        torch_init.normal_(layer.bias, std=0.1, seed=0, name=f"{number}.bias")
        if number >= first:
            torch_init.zeros_(layer.weight)
    verdict = observe(model).verdict
    found = verdict.kind, verdict.severity, verdict.layer
    assert found == ("zero_signal", "error", str(2 * first))


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


@pytest.mark.parametrize("seed", [0, 1])
def test_a_diffusion_model_whose_branches_and_output_begin_at_zero_is_healthy(seed):
    torch.manual_seed(seed)
    model, inputs = DiffusionUNet(), (torch.randn(8, 3, 16, 16), torch.randn(8, 16))
    report = torch_init.check(model, inputs, torch.randn(8, 3, 16, 16), verbose=False)
    assert [(v.kind, v.severity, v.layer) for v in report.verdicts if v.kind != "ok"] == [
        ("zero_signal", "info", "leave.2")
    ]
    assert sum(row.weight_gain == 0 for row in report.weighted) == 6


class Adapted(nn.Module):
    """A frozen layer, and beside it two small ones that learn what must change."""

    def __init__(self, base, *zeros, bias=False, between=nn.Identity):
        super().__init__()
        self.base, self.between = base.requires_grad_(False), between()
        self.a, self.b = nn.Linear(64, 4, bias=bias), nn.Linear(4, 64, bias=bias)
        for name in zeros:
            for parameter in getattr(self, name).parameters():
                torch_init.zeros_(parameter)

    def forward(self, x):
        return self.base(x) + self.b(self.between(self.a(x)))


def adapted(*zeros, **options):
    torch.manual_seed(0)
    model = mlp(3, 64, nn.ReLU, 2.0, classes=64)
    layers = [Adapted(m, *zeros, **options) if isinstance(m, nn.Linear) else m for m in model]
    return nn.Sequential(*layers)


def learns(model, steps=3):
    """Names of the weights that some steps of SGD change."""
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        optimizer.step()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize("zeros", ["a", "b"])
def test_one_adapter_of_zeros_is_no_fault(zeros):
    report = torch_init.check(adapted(zeros), torch.randn(32, 64), verbose=False)
    assert report.verdict.kind == "ok"
    assert {"0.a.weight", "0.b.weight"} <= learns(adapted(zeros))


@pytest.mark.parametrize("between", [nn.Identity, nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("bias", [False, True])
def test_two_adapters_of_zeros_in_a_row_never_learn(between, bias):
    options = {"bias": bias, "between": between}
    report = torch_init.check(adapted("a", "b", **options), torch.randn(32, 64), verbose=False)
    verdict = report.verdict
    assert (verdict.kind, verdict.layer, verdict.severity) == ("zero_signal", "0.a", "error")
    assert "nor those of 7 more layers" in verdict.measured
    assert not {name for name in learns(adapted("a", "b", **options)) if "weight" in name}


def test_a_sigmoid_between_two_layers_of_zeros_wakes_them():
    options = {"between": nn.Sigmoid}
    report = torch_init.check(adapted("a", "b", **options), torch.randn(32, 64), verbose=False)
    assert report.verdict.kind == "ok"
    assert {"0.a.weight", "0.b.weight"} <= learns(adapted("a", "b", **options))


class Rezero(nn.Module):
    """x + alpha * branch(x), where alpha begins at 0."""

    def __init__(self, *branch):
        super().__init__()
        self.branch, self.alpha = nn.Sequential(*branch), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.alpha * self.branch(x)


@pytest.mark.parametrize("is_zero", [False, True])
def test_a_layer_of_zeros_before_a_gate_of_zero_never_learns(is_zero):
    def make():
        torch.manual_seed(0)
        model = nn.Sequential(Rezero(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)))
        if is_zero:
            for parameter in model[0].branch[2].parameters():
                torch_init.zeros_(parameter)
        return model

    verdict = torch_init.check(make(), torch.randn(32, 64), verbose=False).verdict
    wanted = ("zero_signal", "0.branch.2") if is_zero else ("ok", "")
    assert (verdict.kind, verdict.layer) == wanted
    assert ("0.branch.2.weight" in learns(make())) == (not is_zero)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_one_layer_of_zeros_in_a_plain_network(activation):
    def make():
        model = mlp(4, 64, activation, 1.0)
        torch_init.zeros_(model[4].weight)
        return model

    report = torch_init.check(make(), torch.randn(32, 64), verbose=False)
    found = [(v.severity, v.layer) for v in report.verdicts if v.kind == "zero_signal"]
    # ReLU's slope at 0 is 0, so that nothing comes back; tanh's is 1.
    assert found == [("error" if activation is nn.ReLU else "info", "4")]
    assert ("4.weight" in learns(make())) == (activation is nn.Tanh)


def test_without_the_graph_zeros_are_judged_by_what_was_measured():
    model = mlp(4, 64, nn.ReLU, 2.0)
    for parameter in model.parameters():
        torch_init.zeros_(parameter)
    with torch_init.watch(model) as flow:
        nn.functional.cross_entropy(*[model(batch(model)[0]), batch(model)[1]]).backward()
        flow.structure = None
    verdict = flow.report().verdict
    assert (verdict.kind, verdict.layer) == ("zero_signal", "0")


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
