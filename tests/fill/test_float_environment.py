# SPDX-License-Identifier: Apache-2.0
"""Floating-point modes of the calling thread do not reach the values."""

import platform

import pytest
import torch
from cases import REAL_DTYPES, Normal, TruncatedNormal, Uniform, entry, same_bits

from torch_init.distributions import Constant, Logistic, TwoPoint

SUBNORMAL = [
    Normal(0.0, 1e-40),
    Uniform(-1e-40, 1e-40),
    Uniform(0.0, 1e-38),
    TwoPoint(0.5, -1e-40, 1e-40),
    TruncatedNormal.in_sigmas(0.0, 1e-40, -2.0, 2.0),
    TruncatedNormal.in_sigmas(0.0, 1e-40, -1.0, 3.0),
    Logistic(0.0, 1e-40),
    Constant(1e-40),
    Normal(0.0, 1e-310),
    Normal(0.0, 1e-6),  # subnormal in float16
]


@pytest.fixture
def flushed():
    """torch.set_flush_denormal on one after the other: off, on."""
    if not torch.set_flush_denormal(True):
        pytest.skip(f"torch.set_flush_denormal: not supported on {platform.machine()}")
    torch.set_flush_denormal(False)
    yield torch.set_flush_denormal
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("distribution", SUBNORMAL, ids=repr)
def test_flushing_subnormals_changes_nothing(run_plan, flushed, distribution):
    kept = [torch.empty(2001, dtype=dtype) for dtype in REAL_DTYPES]
    run_plan([entry(t, distribution, 8) for t in kept])
    other = [torch.empty(2001, dtype=dtype) for dtype in REAL_DTYPES]
    flushed(True)
    run_plan([entry(t, distribution, 8) for t in other])
    assert (torch.tensor([1e-40]) * 1.0).item() == 0.0, "the caller's mode is restored"
    flushed(False)
    for a, b in zip(kept, other, strict=True):
        assert same_bits(a, b), a.dtype
