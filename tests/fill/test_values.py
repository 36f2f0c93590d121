# SPDX-License-Identifier: Apache-2.0
"""Every distribution and dtype: the reference's bits from every implementation."""

import pytest
import torch
from cases import (
    COMPLEX_DTYPES,
    DISTRIBUTIONS,
    REAL_DTYPES,
    Normal,
    TruncatedNormal,
    Uniform,
    entry,
    expected,
    same_bits,
)

import torch_init
from torch_init import _ops

KEY = 0x0123456789ABCDEF
# Whole registers of every tier and a rest that fills none.
COUNT = 4099


@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
def test_tier_takes_part(name):
    if name not in _ops.cpu_isas():
        pytest.skip(f"{name}: not built or not supported by this processor, so not tested at all")


def check(run_plan, distribution, dtype):
    tensor = torch.empty(COUNT, dtype=dtype)
    run_plan([entry(tensor, distribution, KEY)])
    assert same_bits(tensor, expected(distribution, dtype, KEY, COUNT)), (distribution, dtype)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
def test_values_follow_the_reference(run_plan, distribution):
    for dtype in REAL_DTYPES:
        check(run_plan, distribution, dtype)


# Parameters at which the narrow dtypes round to subnormals, to zero or out of range.
EDGES = [
    (torch.bfloat16, Normal(0.0, 1e-39)),
    (torch.bfloat16, Normal(0.0, 2e38)),
    (torch.float16, Normal(0.0, 1e-6)),
    (torch.float16, Normal(0.0, 1e-8)),
    (torch.float16, Normal(0.0, 4e4)),
    (torch.float8_e4m3fn, Normal(0.0, 3e-3)),
    (torch.float8_e4m3fn, Normal(0.0, 300.0)),
    (torch.float8_e5m2, Normal(0.0, 2e-5)),
    (torch.float8_e5m2, Normal(0.0, 4e4)),
    (torch.float32, Normal(0.0, 1e-42)),
    (torch.float32, Uniform(-1e-42, 2e-42)),
    (torch.float32, Normal(1.0, 1e-8)),
    (torch.float32, TruncatedNormal.in_sigmas(0.0, 1e-42, -1.0, 3.0)),
    (torch.float64, Normal(0.0, 1e-320)),
    (torch.float16, TruncatedNormal.absolute(0.0, 4e4, 0.0, float("inf"))),
]


@pytest.mark.parametrize(("dtype", "distribution"), EDGES, ids=repr)
def test_edges_of_the_range_follow_the_reference(run_plan, dtype, distribution):
    check(run_plan, distribution, dtype)


@pytest.mark.parametrize("dtype", REAL_DTYPES[2:], ids=str)
@pytest.mark.parametrize("distribution", [Normal(0.1, 0.02), Uniform(-2.0, 2.0)], ids=repr)
def test_narrow_values_are_rounded_float32_values(run_plan, dtype, distribution):
    """Away from the bounds, where the clamp has nothing to do."""
    wide = torch.empty(COUNT)
    narrow = torch.empty(COUNT, dtype=dtype)
    run_plan([entry(wide, distribution, KEY), entry(narrow, distribution, KEY)])
    inside = wide.abs() < 1.7
    assert same_bits(wide[inside].to(dtype), narrow[inside])


@pytest.mark.parametrize("dtype", COMPLEX_DTYPES, ids=str)
def test_complex_values_are_pairs_of_real_ones(dtype):
    tensor = torch_init.normal_(torch.empty(41, 7, dtype=dtype), std=0.5, seed=3, name="z")
    parts = torch.view_as_real(tensor)
    key = _ops.stream_key(3, "z")
    values = expected(Normal(0.0, 0.5 / 2**0.5), parts.dtype, key, parts.numel())
    assert same_bits(parts, values.view(41, 7, 2))
