# SPDX-License-Identifier: Apache-2.0
"""xavier, he, lecun and zero: each weight against the formula with the fans of what it computes."""

import math

import pytest
import torch
from recipe_models import filled, stds
from torch import nn

import torch_init
from torch_init import recipes

# Module, fan_in and fan_out of each weight, worked out by hand.
WEIGHTS = {
    "Linear": (lambda: nn.Linear(300, 200), {"weight": (300, 200)}),
    "Conv2d": (lambda: nn.Conv2d(16, 32, (3, 5)), {"weight": (240, 480)}),
    "grouped": (lambda: nn.Conv2d(32, 64, 3, groups=4), {"weight": (72, 144)}),
    "transposed": (lambda: nn.ConvTranspose2d(16, 64, 3), {"weight": (144, 576)}),
    "LSTM": (
        lambda: nn.LSTM(60, 100),
        {"weight_ih_l0": (60, 100), "weight_hh_l0": (100, 100)},  # of each of the four gates
    ),
    "GRUCell": (lambda: nn.GRUCell(60, 100), {"weight_ih": (60, 100), "weight_hh": (100, 100)}),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(128, 4),
        {"in_proj_weight": (128, 128), "out_proj.weight": (128, 128)},
    ),
    "packed qkv": (lambda: nn.ModuleDict({"qkv": nn.Linear(64, 192)}), {"qkv.weight": (64, 64)}),
    "odd qkv": (lambda: nn.ModuleDict({"qkv": nn.Linear(64, 128)}), {"qkv.weight": (64, 128)}),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize(
    ("recipe", "variance"),
    [
        (recipes.xavier(), lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        (recipes.xavier(gain=3, distribution="normal"), lambda i, o: 18 / (i + o)),
        (recipes.he(), lambda fan_in, fan_out: 2 / fan_in),
        (recipes.he(mode="fan_out"), lambda fan_in, fan_out: 2 / fan_out),
        (recipes.he(nonlinearity="leaky_relu", a=0.5, distribution="uniform"),
         lambda fan_in, fan_out: 2 / (1.25 * fan_in)),
        (recipes.lecun(), lambda fan_in, fan_out: 1 / fan_in),
        (recipes.lecun("uniform"), lambda fan_in, fan_out: 1 / fan_in),
        (recipes.lecun("truncated_normal"), lambda fan_in, fan_out: 1 / fan_in),
    ],
)  # fmt: skip
def test_variance_is_the_formulas(name, recipe, variance):
    make, weights = WEIGHTS[name]
    plan = filled(make(), recipe)
    for row in plan.rows:
        if row.name in weights:
            assert row.std == pytest.approx(math.sqrt(variance(*weights[row.name])), rel=1e-6)
        else:
            assert (row.mean, row.std) == (0, 0), row.name


def test_uniform_has_the_papers_bound():
    row = torch_init.plan(nn.Linear(100, 50), "xavier", seed=0)["weight"]
    assert (row.low, row.high) == pytest.approx((-math.sqrt(6 / 150), math.sqrt(6 / 150)))


def test_lecun_truncated_is_cut_at_two_sigma():
    row = torch_init.plan(nn.Linear(100, 50), recipes.lecun("truncated_normal"), seed=0)["weight"]
    assert row.high == pytest.approx(2 * 0.1 / 0.87962566103423978)


@pytest.mark.parametrize("recipe", ["xavier", "he", "lecun"])
def test_the_rest_is_as_torch_has_it(recipe):
    model = nn.Sequential(nn.Embedding(30, 8), nn.LayerNorm(8), nn.PReLU(), nn.Bilinear(8, 8, 2))
    mine = torch_init.plan(model, recipe, seed=0)
    torchs = torch_init.plan(model, "torch-default", seed=0)
    assert [(r.scheme, r.std) for r in mine.rows] == [(r.scheme, r.std) for r in torchs.rows]


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (6, 4), (5, 3), (16, 8)])
def test_zero_is_algorithm_1_as_its_authors_wrote_it(shape):
    outputs, inputs = shape
    model = nn.Linear(inputs, outputs)
    filled_by_zero(model)
    if outputs <= inputs:
        expected = torch.eye(outputs, inputs)
    else:
        order = math.ceil(math.log2(outputs))
        hadamard = torch.ones(1, 1)
        for _ in range(order):
            hadamard = torch.cat([torch.cat([hadamard, hadamard], 1),
                                  torch.cat([hadamard, -hadamard], 1)])  # fmt: skip
        expected = hadamard[:outputs, :inputs] / 2 ** (order / 2)
    assert torch.allclose(model.weight, expected)
    assert torch.all(model.bias == 0)


def test_zero_puts_a_convolutions_matrix_at_its_centre():
    model = nn.Conv2d(2, 2, 3)
    filled_by_zero(model)
    expected = torch.zeros(2, 2, 3, 3)
    expected[:, :, 1, 1] = torch.eye(2)
    assert torch.equal(model.weight, expected)


def test_zero_cuts_packed_projections():
    model = nn.MultiheadAttention(4, 1)
    filled_by_zero(model)
    assert torch.equal(model.in_proj_weight, torch.eye(4).repeat(3, 1))


@pytest.mark.parametrize(
    "module", [nn.Embedding(4, 4), nn.GRU(3, 3), nn.Conv2d(4, 4, 3, groups=2)], ids=str
)
def test_zero_does_not_cover_what_its_paper_does_not(module):
    with pytest.raises(ValueError, match="weight"):
        torch_init.plan(module, "zero", seed=0)


def filled_by_zero(model):
    torch_init.init_(model, "zero", seed=0)


def test_distributions_are_checked():
    for recipe in (recipes.xavier, recipes.he, recipes.lecun):
        with pytest.raises(ValueError, match="distribution"):
            recipe(distribution="cauchy")


def test_gates_have_streams_of_their_own():
    model = nn.LSTM(8, 8)
    torch_init.init_(model, "xavier", seed=0)
    gates = model.weight_ih_l0.detach().chunk(4)
    assert not any(torch.equal(gates[0], gate) for gate in gates[1:])
    assert stds(model, "xavier")["weight_ih_l0"] == pytest.approx(math.sqrt(2 / 16))
