# SPDX-License-Identifier: Apache-2.0
"""Gains: torch's where torch has one, else 1 / sqrt(E f(x)^2) by numerical integration."""

import functools
import math

import pytest
import torch
from scipy import integrate
from torch.nn import functional

import torch_init

TORCH_HAS = [
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "selu",
]
SECOND_MOMENT = {
    "gelu": functional.gelu,
    "gelu_tanh": functools.partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
    "elu": functional.elu,
    "mish": functional.mish,
}


def second_moment_gain(function):
    def integrand(x):
        value = function(torch.tensor(x, dtype=torch.float64)).item()
        return value**2 * math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)

    halves = [
        integrate.quad(integrand, *ends, epsabs=1e-14, epsrel=1e-13, limit=200)[0]
        for ends in ((-30, 0), (0, 30))  # elu has a kink at 0
    ]
    return 1 / math.sqrt(sum(halves))


@pytest.mark.parametrize("nonlinearity", TORCH_HAS)
def test_gain_of_torch(nonlinearity):
    theirs = torch.nn.init.calculate_gain(nonlinearity)
    assert torch_init.calculate_gain(nonlinearity) == theirs


@pytest.mark.parametrize("slope", [None, 0, 0.01, 0.2, 1, -0.5, 10, math.sqrt(5)])
def test_gain_of_a_slope(slope):
    theirs = torch.nn.init.calculate_gain("leaky_relu", slope)
    assert torch_init.calculate_gain("leaky_relu", slope) == pytest.approx(theirs, rel=1e-15)


@pytest.mark.parametrize("nonlinearity", SECOND_MOMENT)
def test_gain_that_torch_lacks_keeps_the_second_moment(nonlinearity):
    expected = second_moment_gain(SECOND_MOMENT[nonlinearity])
    # 1e-12: the quadrature's own error; the constants are given to 1e-15.
    assert torch_init.calculate_gain(nonlinearity) == pytest.approx(expected, rel=1e-12)


def test_the_criterion_gives_the_known_gains_of_relu_and_identity():
    assert second_moment_gain(functional.relu) == pytest.approx(math.sqrt(2), rel=1e-12)
    assert second_moment_gain(lambda x: x) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("nonlinearity", SECOND_MOMENT)
def test_layer_with_that_gain_keeps_the_second_moment(nonlinearity):
    """One layer only: for most of these functions 1 is an unstable fixed point.

    3 %: the mean square of 1024 inputs, each with a relative variance below 8, scatters by
    sqrt(8 / 1024 / 256) = 0.6 % over a batch of 256, and 1024 outputs add 0.3 %.
    """
    signal = torch_init.normal_(torch.empty(256, 1024), seed=0, name="input")
    gain = torch_init.calculate_gain(nonlinearity)
    weight = torch_init.xavier_(torch.empty(1024, 1024), gain, "fan_in", seed=0, name="weight")
    output = SECOND_MOMENT[nonlinearity](signal) @ weight.T
    assert output.square().mean().item() == pytest.approx(1, rel=0.03)


def test_kaiming_takes_the_new_gains():
    tensor = torch_init.kaiming_normal_(torch.empty(8, 6), nonlinearity="gelu", seed=0, name="w")
    std = torch_init.calculate_gain("gelu") / math.sqrt(6)
    same = torch_init.normal_(torch.empty(8, 6), std=std, seed=0, name="w")
    torch.testing.assert_close(tensor, same, rtol=1e-6, atol=0)
