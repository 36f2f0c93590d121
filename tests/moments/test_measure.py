# SPDX-License-Identifier: Apache-2.0
"""Moments against NumPy in float64, on every tier and by the CUDA kernels' code."""

import math

import numpy as np
import pytest
import torch
from cases import COMPLEX_DTYPES, LAYOUTS, REAL_DTYPES

from torch_init import _ops

DTYPES = (*REAL_DTYPES, *COMPLEX_DTYPES)
FIELDS = ("count", "zeros", "nonfinite", "min", "max")


def expected(tensor):
    """What float64 says. math.fsum rounds once, so the sums are right to the last bit."""
    x = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    x = x.to(torch.float64).flatten().numpy()
    finite = x[np.isfinite(x)]
    return {
        "count": tensor.numel(),
        "zeros": int((x == 0).sum()),
        "nonfinite": x.size - finite.size,
        "min": finite.min(initial=np.inf),
        "max": finite.max(initial=-np.inf),
        "sum": math.fsum(finite),
        "sum_squares": math.fsum(finite**2),
        "sum_of_sizes": math.fsum(np.abs(finite)),
    }


def check(row, tensor):
    want = expected(tensor)
    for name in FIELDS:
        assert row[name] == want[name], name
    # Some 2**16 additions at most in a row, each with an error of 2**-53 of the partial sum; random
    # errors add up to far less.
    assert abs(row["sum"] - want["sum"]) <= 1e-13 * want["sum_of_sizes"]
    assert abs(row["sum_squares"] - want["sum_squares"]) <= 1e-13 * want["sum_squares"]


def normal(size, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_complex:
        return torch.randn(size, dtype=dtype, generator=generator)
    return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(measure, layout):
    size, view = LAYOUTS[layout]
    tensors = [view(normal(size, dtype)) for dtype in DTYPES]
    for row, tensor in zip(measure([(t,) for t in tensors]), tensors, strict=True):
        check(row, tensor)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 1000, 65_537, 200_003])
def test_sizes(measure, dtype, size):
    tensor = normal(size + 1, dtype)[1:]
    (row,) = measure([(tensor,)])
    check(row, tensor)


def every_code(dtype):
    """All values of a narrow dtype, those of bfloat16 spread over the exponents for a wide one."""
    if dtype.itemsize == 1:
        return torch.arange(256, dtype=torch.uint8).view(dtype)
    codes = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    if dtype.itemsize == 2:
        return codes.view(dtype)
    integer = torch.int32 if dtype.itemsize == 4 else torch.int64
    return (codes.to(integer) << (8 * dtype.itemsize - 16)).view(dtype)


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_every_kind_of_value(measure, dtype):
    """Subnormals, zeros of both signs, infinities and NaNs in every place of a register."""
    codes = every_code(dtype)
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    integers = codes.view(integer)
    if dtype == torch.float64:  # whose squares would overflow, and sums of the largest
        exponent = (integers >> 52).remainder(2048)
        integers = integers[(exponent < 1500) | (exponent == 2047)]
    for variant in (integers, integers.flip(0)[3:], integers.repeat(3)[1:]):
        tensor = variant.view(dtype)
        (row,) = measure([(tensor,)])
        check(row, tensor)


BAD = [(dtype, bad) for dtype in REAL_DTYPES for bad in (math.inf, -math.inf, math.nan)]
BAD = [pair for pair in BAD if pair[0] != torch.float8_e4m3fn or math.isnan(pair[1])]


@pytest.mark.parametrize(("dtype", "bad"), BAD, ids=str)
def test_one_bad_element_anywhere(measure, dtype, bad):
    clean = normal(3000, dtype)
    entries = []
    for place in (0, 1, 17, 1023, 1024, 2999):
        tensor = clean.clone()
        tensor[place] = bad
        entries.append((tensor,))
    for row, (tensor,) in zip(measure(entries), entries, strict=True):
        check(row, tensor)
        assert row["nonfinite"] == 1


def test_nothing_finite(measure):
    (empty, nan) = measure([(torch.empty(0, 3),), (torch.full((70,), math.nan),)])
    for row in (empty, nan):
        assert (row["sum"], row["sum_squares"], row["min"], row["max"]) == (
            0,
            0,
            math.inf,
            -math.inf,
        )
    assert (empty["count"], nan["count"], nan["nonfinite"]) == (0, 70, 70)


def test_extreme_zeros_have_their_sign(measure):
    (row,) = measure([(torch.tensor([0.0, -0.0, 0.0]),)])
    assert math.copysign(1, row["min"]) == -1 and math.copysign(1, row["max"]) == 1


def test_conjugates_and_negatives_are_read_as_such(measure):
    tensor = torch.randn(50, dtype=torch.complex64)
    lazy = [tensor.conj(), tensor.conj().imag]
    assert lazy[0].is_conj() and lazy[1].is_neg()
    dense = [tensor.conj().resolve_conj(), lazy[1].resolve_neg()]
    assert (measure([(t,) for t in lazy]) == measure([(t,) for t in dense])).all()


def test_more_dimensions_than_the_engine_has(measure):
    tensor = torch.randn(2**9).view((2,) * 9).permute(3, 1, 0, 2, 8, 7, 6, 5, 4)
    (row,) = measure([(tensor,)])
    check(row, tensor)


def test_other_devices_are_refused():
    with pytest.raises(ValueError, match="meta"):
        _ops.measure([(torch.empty(3, device="meta"),)])


def test_no_entries():
    assert _ops.measure([]).shape == (0,)


@pytest.fixture
def many():
    """A model's worth: large, small and strange tensors of every dtype."""
    tensors = [normal(700_001, torch.float32), normal(800_000, torch.bfloat16).view(800, 1000).t()]
    tensors += [normal(1000, dtype, seed=i) for i, dtype in enumerate(DTYPES)]
    tensors += [torch.empty(0), torch.tensor(3.0), normal(500_000, torch.float64)]
    tensors[2][5] = math.nan
    return [(tensor,) for tensor in tensors]


def test_threads_do_not_matter(many):
    previous = torch.get_num_threads()
    try:
        rows = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            rows.append(_ops.measure(many).tobytes())
    finally:
        torch.set_num_threads(previous)
    assert rows[0] == rows[1] == rows[2]


def test_tiers_agree_to_the_last_bit(many):
    """Sums included: every tier adds in the same order."""
    previous = _ops.cpu_isa()
    try:
        rows = {}
        for isa in _ops.cpu_isas():
            _ops.set_cpu_isa(isa)
            rows[isa] = _ops.measure(many).tobytes()
    finally:
        _ops.set_cpu_isa(previous)
    assert len(set(rows.values())) == 1, list(rows)


def test_the_cuda_body_agrees(many):
    """In everything but the sums' last bits, whatever the number of blocks."""
    host = _ops.measure(many)
    body = [_ops.measure_with_cuda_body_on_host(many, blocks) for blocks in (1, 3, 40)]
    for name in (*FIELDS, "fingerprint"):
        assert (body[0][name] == host[name]).all(), name
    assert body[0].tobytes() == body[1].tobytes() == body[2].tobytes()


def test_flushed_subnormals_are_read_all_the_same(measure):
    tensor = torch.full((100,), 1e-40)
    (row,) = measure([(tensor,)])
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        (flushed,) = measure([(tensor,)])
    finally:
        torch.set_flush_denormal(False)
    assert flushed == row and row["sum"] > 0 and row["zeros"] == 0
