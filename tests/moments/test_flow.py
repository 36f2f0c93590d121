# SPDX-License-Identifier: Apache-2.0
"""accumulate_moments_ against NumPy in float64, on every tier and by the CUDA kernels' code."""

import math

import pytest
import torch
from cases import LAYOUTS
from flow_rows import (
    INF,
    check,
    check_features,
    expected_row,
    new_totals,
    normal,
)

from torch_init import _ops

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(accumulate, layout):
    size, view = LAYOUTS[layout]
    for dtype in DTYPES:
        x = view(normal(size, dtype))
        totals = new_totals()
        features = torch.zeros(3, x.shape[-1] if x.dim() else 1, dtype=torch.float64)
        accumulate(x, totals, features, 0, -1.0, 0.5, 7)
        check(totals[0], x, low=-1.0, high=0.5, order=7)
        check_features(features, x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1,), (37, 10), (257, 130), (3, 50, 97), (130, 1031), (9001,)])
def test_shapes(accumulate, dtype, shape):
    x = normal(math.prod(shape), dtype).view(shape)
    totals, features = new_totals(), torch.zeros(3, shape[-1], dtype=torch.float64)
    accumulate(x, totals, features, 0, -2.0, 2.0, 1)
    check(totals[0], x, low=-2.0, high=2.0)
    check_features(features, x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_channels_last_in_view_and_in_memory(accumulate, dtype):
    """Features by movedim from NCHW, as a hook passes them, contiguous and channels_last."""
    image = normal(4 * 5 * 9 * 11, dtype).view(4, 5, 9, 11)
    for x in (image, image.contiguous(memory_format=torch.channels_last)):
        moved = x.movedim(1, -1)
        features = torch.zeros(3, 5, dtype=torch.float64)
        totals = new_totals()
        accumulate(moved, totals, features, 0, -INF, INF, 1)
        check(totals[0], moved)
        check_features(features, moved)


def test_expanded_tensors_count_every_element(accumulate):
    x = normal(70, torch.float32).view(70, 1).expand(70, 33)
    totals, features = new_totals(), torch.zeros(3, 33, dtype=torch.float64)
    accumulate(x, totals, features, 0, -INF, INF, 1)
    check(totals[0], x)
    check_features(features, x)


def every_code(dtype):
    codes = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    if dtype.itemsize == 2:
        return codes.view(dtype)
    if dtype == torch.float32:
        return (codes.to(torch.int32) << 16).view(dtype)
    wide = codes.to(torch.int64) << 48
    exponent = (wide >> 52).remainder(2048)  # no squares that overflow
    return wide[(exponent < 1500) | (exponent == 2047)].view(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_kind_of_value(accumulate, dtype):
    """Subnormals, zeros of both signs, infinities and NaNs; in the features too."""
    x = every_code(dtype)
    x = x[: len(x) // 96 * 96].view(-1, 96)
    totals, features = new_totals(), torch.zeros(3, 96, dtype=torch.float64)
    accumulate(x, totals, features, 0, -1.0, 1.0, 3)
    check(totals[0], x, low=-1.0, high=1.0, order=3)
    check_features(features, x)
    # The same by column: another path of the host's.
    features.zero_()
    accumulate(x.t().contiguous().t(), totals, features, 0, -1.0, 1.0, 3)
    check_features(features, x)


BOUNDS = [
    (-INF, INF), (INF, -INF), (0.0, 0.0), (-0.0, -0.0), (1.0, 1.0), (0.1, 0.1), (-0.1, 0.1),
    (1e-45, 1e-45), (-1e-45, 0.0), (-1e-300, 1e-300), (1e300, 1e300), (-1e300, -1e300),
    (math.nan, math.nan), (65504.0, 65504.0), (3e38, 65520.0),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bounds_are_compared_exactly(accumulate, dtype):
    """Also where the dtype cannot hold them: 0.1 lies between two of its numbers."""
    around = torch.tensor([0.1, 1.0, 65504.0], dtype=torch.float64).to(dtype)
    edges = [torch.nextafter(around, torch.full_like(around, to)) for to in (-INF, INF)]
    x = torch.cat([every_code(dtype)[::7], around, *edges])
    for low, high in BOUNDS:
        for part in (x, x[x.isfinite()], x[-9:]):
            totals = new_totals(histogram=False)
            accumulate(part, totals, None, 0, low, high, 1)
            values = part.double()
            assert totals[0, 6] == (values <= low).sum(), (low, high)
            assert totals[0, 7] == (values >= high).sum(), (low, high)


def test_calls_add_up(accumulate):
    totals, features = new_totals(3), torch.zeros(3, 50, dtype=torch.float64)
    parts = [normal(50 * n, torch.float32, seed=n).view(n, 50) for n in (1, 20, 7)]
    parts[1][3, 4] = math.nan
    for order, part in zip((9, 2**40, 2**39), parts, strict=True):
        accumulate(part, totals, features, 1, -1.0, 1.0, order)
    whole = torch.cat(parts)
    want = expected_row(whole, -1.0, 1.0, 2**40)
    want[0] = 3
    assert totals[1].numpy() == pytest.approx(want, rel=1e-12)
    assert totals[1, 9] == 2**40
    accumulate(parts[1], totals, None, 1, -1.0, 1.0, 2**39)
    assert totals[1, 9] == 2**39
    check_features(features, whole)
    assert (totals[[0, 2]] == 0).all()


def test_nothing_to_read(accumulate):
    for x in (torch.empty(0), torch.empty(0, 5), torch.empty(4, 0, 5)):
        totals, features = new_totals(), torch.ones(3, x.shape[-1], dtype=torch.float64)
        accumulate(x, totals, features, 0, -1.0, 1.0, 1)
        assert totals[0, 0] == 1 and (totals[0, 1:] == 0).all() and (features == 1).all()


@pytest.mark.parametrize("scale", [1.0, 65536.0, 1000.0, 0.25, 1448.0, 1449.0])
def test_scale(accumulate, scale):
    """1448 < 2**10.5 < 1449."""
    x = normal(5000, torch.float16) * 100
    totals = new_totals()
    accumulate(x, totals, None, 0, -1.0, 1.0, 1, torch.tensor(scale), None)
    check(totals[0], x, low=-1.0, high=1.0, scale=scale)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_gate(accumulate, dtype):
    x = normal(300, torch.float32)
    totals, features = new_totals(), torch.zeros(3, 300, dtype=torch.float64)
    accumulate(x, totals, features, 0, -1.0, 1.0, 1, None, torch.zeros((), dtype=dtype))
    assert (totals == 0).all() and (features == 0).all()
    accumulate(x, totals, features, 0, -1.0, 1.0, 1, None, torch.ones(1, dtype=dtype))
    check(totals[0], x, low=-1.0, high=1.0)


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_squares_neither_underflow_nor_overflow(accumulate, size):
    x = torch.full((1000,), size)
    totals, features = new_totals(), torch.zeros(3, 1000, dtype=torch.float64)
    accumulate(x, totals, features, 0, -INF, INF, 1)
    rms = math.sqrt(totals[0, 3].item() / 1000)
    assert rms == pytest.approx(x[0].item(), rel=1e-12)
    assert features[2, 5].item() == pytest.approx(x[0].item() ** 2, rel=1e-12)


def test_a_tiny_spread_over_the_batch_is_resolved(accumulate):
    """A collapsed batch: standard deviation 1e-6 of the mean."""
    x = (1 + 1e-6 * normal(512 * 40, torch.float64)).view(512, 40)
    features = torch.zeros(3, 40, dtype=torch.float64)
    accumulate(x, new_totals(), features, 0, -INF, INF, 1)
    mean = features[1] / 512
    variance = features[2] / 512 - mean**2
    assert torch.allclose(variance.sqrt(), x.std(0, correction=0), rtol=1e-2)


def test_flushed_subnormals_are_read_all_the_same(accumulate):
    """The bounds too, which are found by arithmetic on subnormals."""
    x = torch.arange(-50, 50).to(torch.float16) * 2.0**-24
    wanted, found = new_totals(), new_totals()
    accumulate(x, wanted, None, 0, -(2.0**-22), 2.0**-21, 1)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        accumulate(x, found, None, 0, -(2.0**-22), 2.0**-21, 1)
    finally:
        torch.set_flush_denormal(False)
    check(wanted[0], x, low=-(2.0**-22), high=2.0**-21)
    assert torch.equal(found, wanted)


def test_meta_tensors_have_nothing_to_read():
    totals = new_totals().to("meta")
    _ops.accumulate_moments_(torch.empty(3, device="meta"), totals, None, 0, -1.0, 1.0, 1)
