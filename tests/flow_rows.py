# SPDX-License-Identifier: Apache-2.0
"""Rows of flow's statistics, and what NumPy makes of them in float64."""

import math

import numpy as np
import pytest
import torch

COLUMNS, BINS = 12, 64
INF = math.inf


def new_totals(rows=1, histogram=True):
    return torch.zeros(rows, COLUMNS + BINS * histogram, dtype=torch.float64)


def expected_row(x, low=-INF, high=INF, order=1, scale=1.0):
    """One call's row. math.fsum rounds once, so the sums are right to the last bit."""
    tiny = torch.finfo(x.dtype).tiny
    x = x.to(torch.float64).flatten().numpy()
    finite = x[np.isfinite(x)]
    size = np.abs(finite)
    row = np.zeros(COLUMNS + BINS)
    row[:5] = (
        1,
        x.size,
        math.fsum(finite) / scale,
        math.fsum(finite**2) / scale**2,
        size.max(initial=0) / scale,
    )
    row[5] = (x == 0).sum()
    row[6], row[7] = (x <= low).sum(), (x >= high).sum()
    row[8] = x.size - finite.size
    row[9] = order if row[8] else 0
    row[10] = ((size > 0) & (size < tiny)).sum()
    exponents = np.frexp(size[size > 0])[1] - 1 + 40 - round(math.log2(scale))
    row[COLUMNS:] = np.bincount(np.clip(exponents, 0, BINS - 1), minlength=BINS)
    return row


def expected_features(x):
    x = x.to(torch.float64).numpy()
    width = x.shape[-1] if x.ndim else 1
    x = np.where(np.isfinite(x), x, 0).reshape(x.size // max(width, 1), width)
    return np.array([(x > 0).sum(0), x.sum(0), (x**2).sum(0)])


def check(found, x, **arguments):
    found, want = found.numpy(), expected_row(x, **arguments)
    scale = arguments.get("scale", 1.0)
    values = x.to(torch.float64).nan_to_num(0, 0, 0).abs().sum().item() / scale
    exact = [0, 1, *range(5, len(found))]
    assert (found[exact] == want[exact]).all()
    assert abs(found[2] - want[2]) <= 1e-13 * values
    assert found[3] == pytest.approx(want[3], rel=1e-13)
    assert found[4] == pytest.approx(want[4], rel=1e-15)


def check_features(found, x):
    want = expected_features(x)
    assert (found[0].numpy() == want[0]).all()
    sizes = np.abs(np.nan_to_num(x.to(torch.float64).numpy(), nan=0, posinf=0, neginf=0))
    slack = 1e-13 * sizes.reshape(-1, max(want.shape[1], 1)).sum(0)
    assert (np.abs(found[1].numpy() - want[1]) <= slack).all()
    assert found[2].numpy() == pytest.approx(want[2], rel=1e-13)


def normal(size, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)
