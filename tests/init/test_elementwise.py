# SPDX-License-Identifier: Apache-2.0
"""The initialisers with a distribution of their own: laws, bounds and limiting cases."""

import math

import battery
import numpy as np
import pytest
import torch
from init_cases import NARROW_DTYPES, REAL_DTYPES, same_bits
from scipy import special, stats

import torch_init

INF = math.inf
KEY = {"seed": 2, "name": "w"}


def passes(tensor, law, cdf):
    seen = battery.Battery(law, cdf)
    seen.add(tensor.double().numpy())
    return not battery.failures(seen.p_values())


def test_normal_and_uniform_take_their_parameters():
    tensor = torch.empty(200_000)
    torch_init.normal_(tensor, 3.0, 0.5, **KEY)
    assert passes(tensor, stats.norm(3, 0.5), lambda x: special.ndtr((x - 3) / 0.5))
    torch_init.uniform_(tensor, -2.0, 6.0, **KEY)
    assert passes(tensor, stats.uniform(-2, 8), lambda x: (x + 2) / 8)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [
        (0.0, 1.0, -2.0, 2.0),
        (0.3, 0.5, 0.0, 1.0),
        (0.0, 1.0, 30.0, 31.0),
        (0.0, 1.0, -INF, -3.0),
        (5.0, 2.0, 4.0, INF),
        (-1.0, 0.01, -1.0005, -0.9995),
        (1000.0, 1.0, 0.0, 998.0),
    ],
)
def test_truncated_normal_takes_absolute_bounds(mean, std, a, b):
    tensor = torch_init.trunc_normal_(
        torch.empty(200_000, dtype=torch.float64), mean, std, a, b, **KEY
    )
    lower, upper = (a - mean) / std, (b - mean) / std
    cdf = battery.truncated_cdf(lower, upper)
    if upper <= 0:  # the battery's differences of small tails are those of the upper half
        mirrored = battery.truncated_cdf(-upper, -lower)
        cdf = lambda z: 1 - mirrored(-z)  # noqa: E731
    law = stats.truncnorm(lower, upper, mean, std)
    assert passes(tensor, law, lambda x: cdf((x - mean) / std))


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_truncated_normal_never_leaves_its_bounds(dtype):
    for a, b in [(-0.1, 0.3), (0.123, 0.987), (-1.0, 1.0), (0.0, INF)]:
        for std in (0.05, 1.0, 100.0):
            tensor = torch_init.trunc_normal_(
                torch.empty(20_000, dtype=dtype), 0.2, std, a, b, **KEY
            ).double()
            assert a <= tensor.min()
            assert tensor.max() <= b
            assert tensor.unique().numel() > 5  # float8_e5m2 has four values an octave


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_uniform_is_half_open(dtype):
    for a, b in [(0.0, 1.0), (-1.0, 1.0), (-0.3, 0.1), (100.0, 101.0), (-1.0, 0.0)]:
        if dtype in NARROW_DTYPES and a == 100:
            continue  # [100, 101) holds one value of bfloat16, and none but 100 of the others'
        tensor = torch_init.uniform_(torch.empty(100_000, dtype=dtype), a, b, **KEY).double()
        assert a <= tensor.min()
        assert tensor.max() < b
        # No atom at either end: an end's share is that of its rounding interval, two at most.
        spacing = 2 * torch.finfo(dtype).eps * max(abs(a), abs(b)) / (b - a)
        for end in (tensor.min(), tensor.max()):
            assert (tensor == end).sum() <= 100_000 * spacing * 1.1 + 30


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_limiting_cases_are_constants(dtype):
    def made(name, *arguments):
        return getattr(torch_init, name)(torch.empty(5, dtype=dtype), *arguments, **KEY)

    for value in (0.0, 0.3, -2.0):
        expected = torch.full((5,), value, dtype=torch.float64).to(dtype)
        assert same_bits(made("normal_", value, 0), expected)
        assert same_bits(made("uniform_", value, value), expected)
        assert same_bits(made("trunc_normal_", value, 0), expected)
        assert same_bits(made("trunc_normal_", 0.0, 1.0, value, value), expected)


def test_untruncated_truncation_is_normal():
    normal = torch_init.normal_(torch.empty(1000), 0.5, 2.0, **KEY)
    assert same_bits(
        torch_init.trunc_normal_(torch.empty(1000), 0.5, 2.0, -INF, INF, **KEY), normal
    )


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_bernoulli_is_one_with_its_probability(dtype):
    """100000 draws: a score beyond 5 has a probability of 6e-7."""
    for p in (0.0, 1e-3, 0.3, 0.5, 1.0):
        tensor = torch_init.bernoulli_(torch.empty(100_000, dtype=dtype), p, **KEY).double()
        assert ((tensor == 0) | (tensor == 1)).all()
        deviation = math.sqrt(p * (1 - p) / 100_000)
        assert abs(tensor.mean().item() - p) <= 5 * deviation


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_rademacher_is_either_sign(dtype):
    tensor = torch_init.rademacher_(torch.empty(100_000, dtype=dtype), 0.5, **KEY).double()
    assert (tensor.abs() == 0.5).all()
    assert abs(tensor.mean().item()) < 5 * 0.5 / math.sqrt(100_000)
    flipped = torch_init.rademacher_(torch.empty(100_000, dtype=dtype), -0.5, **KEY).double()
    assert torch.equal(flipped, -tensor)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8, torch.complex64], ids=str)
def test_constants_take_every_dtype_of_torch(dtype):
    for name, arguments in [("constant_", (1,)), ("ones_", ()), ("zeros_", ())]:
        ours = getattr(torch_init, name)(torch.empty(3, dtype=dtype), *arguments)
        theirs = getattr(torch.nn.init, name)(torch.empty(3, dtype=dtype), *arguments)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "val",
    [1j, 1e300, 10**400, np.uint64(2**64 - 1), np.str_("x")],
    ids=["complex", "large", "integer", "of NumPy", "text of NumPy"],
)
def test_constants_that_a_dtype_cannot_hold_are_described(val):
    with pytest.raises((TypeError, ValueError), match=r"torch_init\.constant_: val: expected a"):
        torch_init.constant_(torch.empty(3), val)


def test_constants_fill_expanded_memory_as_torch_does():
    """Every element gets the same value, so it does not matter that they share memory."""
    assert torch_init.ones_(torch.zeros(1).expand(3)).tolist() == [1.0, 1.0, 1.0]
