# SPDX-License-Identifier: Apache-2.0
"""The fan_in that the graph shows is the core's, however a weight is stored and applied."""

import pytest
import torch
from flow_networks import kinds, rows_of
from torch import nn

import torch_init
from torch_init.schemes import compute_fans

N, INPUTS, OUTPUTS = 256, 48, 32


class Product(nn.Module):
    """Has one weight, and applies it in some way."""

    def __init__(self, shape, apply):
        super().__init__()
        self.weight, self.apply_weight = nn.Parameter(torch.randn(shape)), apply

    def forward(self, x):
        return self.apply_weight(x, self.weight)


PRODUCTS = {
    "x @ W": ((INPUTS, OUTPUTS), lambda x, w: x @ w, {"transposed": True}),
    "x @ W.T": ((OUTPUTS, INPUTS), lambda x, w: x @ w.T, {}),
    "(W @ x.T).T": ((OUTPUTS, INPUTS), lambda x, w: (w @ x.T).T, {}),
    "experts": ((5, INPUTS, OUTPUTS), lambda x, w: torch.bmm(x.expand(5, *x.shape), w)[2], {
        "batch_axes": 0, "in_axis": 1, "out_axis": 2}),
    "einsum": ((5, INPUTS, OUTPUTS), lambda x, w: torch.einsum("ni,eio->neo", x, w)[:, 1], {
        "batch_axes": 0, "in_axis": 1, "out_axis": 2}),
    "einsum by expert": (
        (5, OUTPUTS, INPUTS),
        lambda x, w: torch.einsum("eni,eoi->eno", x.expand(5, *x.shape), w)[3],
        {"batch_axes": 0, "in_axis": 2, "out_axis": 1},
    ),
    "left experts": (
        (5, OUTPUTS, INPUTS),
        lambda x, w: torch.bmm(w, x.T.expand(5, INPUTS, len(x)))[0].T,
        {"batch_axes": 0, "in_axis": 2, "out_axis": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name):
    shape, apply, layout = PRODUCTS[name]
    torch.manual_seed(0)
    model = nn.Sequential(Product(shape, apply), nn.ReLU(), nn.Linear(OUTPUTS, 10))
    report = torch_init.check(model, torch.randn(N, INPUTS), verbose=False)
    row = rows_of(report)["0"]
    fans = compute_fans(shape, **layout)
    assert row.fan_in == fans.fan_in
    square = model[0].weight.square().mean().item()
    assert row.weight_gain == pytest.approx(fans.fan_in * square, rel=1e-5)
    assert row.rms == pytest.approx(row.expected_rms, rel=0.1)
    assert kinds(report) == ["ok"]


CONVOLUTIONS = {
    "plain": (nn.Conv2d(24, 32, 3, padding=0), {}),
    "grouped": (nn.Conv2d(24, 32, 3, groups=4), {"groups": 4}),
    "depthwise": (nn.Conv1d(24, 24, 5, groups=24), {"groups": 24}),
    "transposed": (nn.ConvTranspose2d(24, 32, 2, stride=2), {"transposed": True}),
    "transposed grouped": (
        nn.ConvTranspose2d(24, 32, 2, stride=2, groups=4),
        {"transposed": True, "groups": 4},
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    layer, layout = CONVOLUTIONS[name]
    x = torch.randn(4, 24, *[12] * (layer.weight.dim() - 2))
    row = torch_init.check(layer, x, verbose=False).rows[0]
    assert row.fan_in == compute_fans(layer.weight.shape, **layout).fan_in


FACTORS = {
    "number": lambda x, w: torch.ops.aten.mul.Scalar(x, 3.0) @ w,
    "tensor": lambda x, w: (x @ w) * torch.tensor(3.0),
    "quotient": lambda x, w: (x @ w) / torch.tensor(1 / 3),
    "quotient by a number": lambda x, w: torch.ops.aten.div.Scalar(x @ w, 1 / 3),
    "python": lambda x, w: 3 * (x @ w),
}


@pytest.mark.parametrize("name", FACTORS)
def test_factors(name):
    torch.manual_seed(0)
    model = nn.Sequential(Product((INPUTS, OUTPUTS), FACTORS[name]), nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        model[0].weight.mul_(INPUTS**-0.5)
    report = torch_init.check(model, torch.randn(N, INPUTS), verbose=False)
    assert kinds(report) == ["ok"]
    assert rows_of(report)["0"].rms == pytest.approx(rows_of(report)["0"].expected_rms, rel=0.1)
    assert rows_of(report)["0"].rms == pytest.approx(3.0, rel=0.1)
