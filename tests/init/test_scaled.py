# SPDX-License-Identifier: Apache-2.0
"""Each scheme against its paper's formula.

A normal scheme is compared with normal_ of the paper's standard deviation under the same key, a
uniform one with uniform_ of the paper's bound: the streams are the same, so the tensors must be.
float64 and a relative tolerance of 1e-14 leave room for the order of the formula's operations.
"""

import math

import pytest
import torch
from scipy import stats

import torch_init

KEY = {"seed": 5, "name": "w"}
SHAPE = (24, 10, 3)
FAN_IN, FAN_OUT = 10 * 3, 24 * 3
FAN_AVG = (FAN_IN + FAN_OUT) / 2
FAN_GEO_AVG = math.sqrt(FAN_IN * FAN_OUT)


def made(name, *arguments, **keywords):
    tensor = torch.empty(SHAPE, dtype=torch.float64)
    return getattr(torch_init, name)(tensor, *arguments, **KEY, **keywords)


def normal(std):
    return made("normal_", 0.0, std)


def uniform(bound):
    return made("uniform_", -bound, bound)


def truncated(std):
    """Cut at two of its own standard deviations, with standard deviation std after the cut."""
    wide = std / stats.truncnorm(-2, 2).std()
    return made("trunc_normal_", 0.0, wide, -2, 2, bounds="sigma")


def identical(left, right):
    torch.testing.assert_close(left, right, rtol=1e-14, atol=0)


@pytest.mark.parametrize("gain", [1.0, 5 / 3, 0.1, -2.0])
def test_glorot_and_bengio(gain):
    identical(made("xavier_normal_", gain), normal(abs(gain) * math.sqrt(2 / (FAN_IN + FAN_OUT))))
    bound = abs(gain) * math.sqrt(6) / math.sqrt(FAN_IN + FAN_OUT)  # eq. 16
    identical(made("xavier_uniform_", gain), uniform(bound))
    identical(made("xavier_", gain), made("xavier_normal_", gain))


@pytest.mark.parametrize(("mode", "fan"), [("fan_in", FAN_IN), ("fan_out", FAN_OUT)])
def test_he_et_al(mode, fan):
    for slope in (0, 0.25):
        std = math.sqrt(2 / ((1 + slope**2) * fan))  # eq. 10 and 14, with eq. 15's slope
        identical(made("kaiming_normal_", slope, mode), normal(std))
        identical(made("kaiming_uniform_", slope, mode), uniform(math.sqrt(3) * std))
    identical(made("kaiming_normal_", 0, mode, "linear"), normal(1 / math.sqrt(fan)))
    identical(made("kaiming_normal_", 0, mode, "tanh"), normal(5 / 3 / math.sqrt(fan)))
    identical(made("he_", mode), normal(math.sqrt(2 / fan)))


def test_lecun():
    identical(made("lecun_normal_"), normal(1 / math.sqrt(FAN_IN)))
    identical(made("lecun_uniform_"), uniform(math.sqrt(3 / FAN_IN)))


def test_lecture_forms():
    """randn(n_out, n_in) / sqrt(n_in) for Xavier, / sqrt(n_in / 2) for He."""
    randn = normal(1.0)
    identical(made("xavier_", mode="fan_in"), randn / math.sqrt(FAN_IN))
    identical(made("he_"), randn / math.sqrt(FAN_IN / 2))
    identical(made("he_"), made("kaiming_normal_", nonlinearity="relu"))


@pytest.mark.parametrize(
    ("mode", "fan"),
    [
        ("fan_in", FAN_IN),
        ("fan_out", FAN_OUT),
        ("fan_avg", FAN_AVG),
        ("fan_geo_avg", FAN_GEO_AVG),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 2.0, 0.02])
def test_variance_scaling(mode, fan, scale):
    std = math.sqrt(scale / fan)
    identical(made("variance_scaling_", scale, mode, "normal"), normal(std))
    identical(made("variance_scaling_", scale, mode, "uniform"), uniform(math.sqrt(3) * std))
    identical(made("variance_scaling_", scale, mode), truncated(std))
    identical(made("xavier_", math.sqrt(scale), mode), normal(std))


def test_truncated_form_is_that_of_jax_and_keras():
    """Their constant, and the bound: two standard deviations of the wider normal."""
    tensor = torch_init.variance_scaling_(torch.empty(400, 500), seed=0, name="w")
    std = math.sqrt(1 / 500)
    bound = 2 * std / 0.87962566103423978
    assert tensor.abs().max() <= bound
    assert tensor.abs().max() > 0.9999 * bound  # 200000 draws: missed with probability 1e-5
    # The standard deviation of 2e5 draws scatters by 0.13 %.
    assert tensor.std().item() == pytest.approx(std, rel=0.006)


@pytest.mark.parametrize("name", ["xavier_uniform_", "kaiming_uniform_", "lecun_uniform_"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_uniform_bounds_are_met_and_kept(name, dtype):
    tensor = getattr(torch_init, name)(torch.empty(400, 500, dtype=dtype), seed=0, name="w")
    fan, scale = {
        "xavier_uniform_": (450, 1),
        "kaiming_uniform_": (500, 2),
        "lecun_uniform_": (500, 1),
    }[name]
    bound = math.sqrt(3 * scale / fan)
    tensor = tensor.double()  # a comparison in the narrow dtype would round the bound
    assert tensor.min() >= -bound
    assert tensor.max() < bound
    assert tensor.abs().max() > 0.99 * bound


def test_zero_scale_is_zero():
    assert not made("variance_scaling_", 0.0).any()
    assert not made("xavier_uniform_", 0.0).any()


@pytest.mark.parametrize(
    "name", ["normal_", "xavier_", "kaiming_normal_", "lecun_normal_", "orthogonal_"]
)
def test_complex_variance_is_shared_by_both_parts(name):
    shape = (300, 400)
    tensor = getattr(torch_init, name)(torch.empty(shape, dtype=torch.complex64), **KEY)
    std = {
        "normal_": 1.0,
        "xavier_": math.sqrt(1 / 350),
        "kaiming_normal_": math.sqrt(2 / 400),
        "lecun_normal_": math.sqrt(1 / 400),
        "orthogonal_": math.sqrt(1 / 400),  # rows of norm 1
    }[name]
    # 2.4e5 real numbers: their mean square scatters by 0.3 %.
    for part in (tensor.real, tensor.imag):
        assert part.square().mean().item() == pytest.approx(std**2 / 2, rel=0.015)
    assert (tensor.real * tensor.imag).mean().abs().item() < 0.015 * std**2


def test_trunc_normal_bounds_are_absolute_unless_said_otherwise():
    tensor = torch.empty(20000)
    absolute = torch_init.trunc_normal_(tensor.clone(), std=0.02, **KEY)
    assert absolute.abs().max() > 0.06  # the defaults of +-2 are 100 standard deviations
    sigma = torch_init.trunc_normal_(tensor.clone(), std=0.02, bounds="sigma", **KEY)
    assert sigma.abs().max() <= 0.04
    same = torch_init.trunc_normal_(tensor.clone(), std=0.02, a=-0.04, b=0.04, **KEY)
    torch.testing.assert_close(sigma, same, rtol=1e-6, atol=0)
    shifted = torch_init.trunc_normal_(tensor.clone(), 1.0, 0.5, -1, 3, bounds="sigma", **KEY)
    assert shifted.min() >= 0.5
    assert shifted.max() <= 2.5
