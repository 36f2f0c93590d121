# SPDX-License-Identifier: Apache-2.0
"""Weights and gradients of exactly zero: a fault where nothing goes around them."""

import pytest
import torch
from flow_networks import Residual, batch, mlp, observe
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
