# SPDX-License-Identifier: Apache-2.0
"""The calls that verdicts suggest can be run, and do what the verdicts say of them."""

import pytest
import torch
from torch.nn import functional

import torch_init
from torch_init.flow.advice import initialiser_for, level_gain
from torch_init.flow.nonlinearity import gaussian_moments

FUNCTIONS = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "elu": functional.elu,
    "mish": functional.mish,
    "selu": functional.selu,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_suggested_call_gives_the_variance_that_is_named(name):
    weight = torch.empty(512, 512)
    eval(initialiser_for(name), {"torch_init": torch_init, "weight": weight})
    # 2^18 elements: the variance of their mean square is 2 / 2^18, three sigmas 0.8 %.
    assert 512 * weight.square().mean().item() == pytest.approx(level_gain(name), rel=0.01)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "tanh"])
def test_that_variance_keeps_the_size_of_a_unit_signal(name):
    # calculate_gain()'s constants have 15 digits, the quadrature 9.
    square = gaussian_moments(FUNCTIONS[name], 0.0, 1.0).square
    assert level_gain(name) * square == pytest.approx(1.0, abs=1e-6)


def test_tanh_keeps_small_signals_and_loses_none_of_the_gradient_there():
    moments = gaussian_moments(torch.tanh, 0.0, 1e-4)
    assert level_gain("tanh") * moments.slope_square == pytest.approx(1.0, abs=1e-3)


def test_of_what_is_unknown_nothing_is_said():
    assert initialiser_for("attention") == "" and level_gain("attention") is None
