# SPDX-License-Identifier: Apache-2.0
"""Values never leave their bounds, in the dtype in which they are stored."""

import math

import pytest
import reference
import torch
from cases import INF, REAL_DTYPES, TruncatedNormal, Uniform, entry

COUNT = 20_000  # of a few ulp's width: every value of the dtype in it occurs

# Bounds that the narrow dtypes, and float32, do not have; that lie a few steps apart; that a
# product or a sum rounds past.
BOUNDS = [
    (0.1, 0.3),
    (-0.1, 0.3),
    (1.0, 1.0 + 3 * 2.0**-24),
    (1.0, 1.0 + 2.0**-7),
    (0.999, 1.001),
    (-1.0 / 3.0, -0.3),
    (3.0e-8, 2.0e-7),
    (-1e-3, 1e-3),
    (-1e-44, 3e-44),
    (100.1, 100.9),
    (1e6, 1e6 + 0.3),
    (440.0, 447.0),
    (65440.0, 65503.0),
    (1e-310, 3e-310),
]


def has_values(dtype, low, high):
    """Whether the dtype has a finite value in [low, high)."""
    value = reference.up(low, dtype)
    return math.isfinite(value) and value < high


def filled(run_plan, distribution, dtype):
    tensor = torch.empty(COUNT, dtype=dtype)
    run_plan([entry(tensor, distribution, 1)])
    return tensor.to(torch.float64)


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_uniform_stays_below_its_upper_bound(run_plan, low, high):
    for dtype in REAL_DTYPES:
        # uniform_ takes bounds in the dtype's range only.
        if not has_values(dtype, low, high) or high > torch.finfo(dtype).max:
            continue
        values = filled(run_plan, Uniform(low, high), dtype)
        assert low <= values.min() <= values.max() < high, dtype


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("std", [1e-3, 1.0, 1e3])
def test_truncated_normal_stays_within_its_bounds(run_plan, low, high, std):
    """From bounds far in a tail to bounds so close that the distribution is uniform."""
    for dtype in REAL_DTYPES:
        if not has_values(dtype, low, high):
            continue
        values = filled(run_plan, TruncatedNormal.absolute(0.0, std, low, high), dtype)
        assert low <= values.min() <= values.max() <= high, dtype


@pytest.mark.parametrize("bound", [-3.0, -0.1, 0.0, 0.1, 3.0, 1000.0])
def test_one_sided_bounds(run_plan, bound):
    for dtype in REAL_DTYPES:
        if has_values(dtype, bound, INF):
            above = filled(run_plan, TruncatedNormal.absolute(0.0, 1.0, bound, INF), dtype)
            assert bound <= above.min() <= above.max() < INF, dtype
        below = filled(run_plan, TruncatedNormal.absolute(0.0, 1.0, -INF, bound), dtype)
        assert -INF < below.min() <= below.max() <= bound, dtype
