# SPDX-License-Identifier: Apache-2.0
"""accumulate_moments_ against NumPy in float64, on every tier and by the CUDA kernels' code."""

import math

import numpy as np
import pytest
import torch
from cases import LAYOUTS

from torch_init import _ops

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
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


def large():
    x = normal(1200 * 1031, torch.bfloat16).view(1200, 1031)
    x[7, 9] = math.nan
    return x


def run(x, accumulate=None):
    totals, features = new_totals(), torch.zeros(3, x.shape[-1], dtype=torch.float64)
    (accumulate or _ops.accumulate_moments_)(x, totals, features, 0, -1.0, 1.0, 1)
    return totals.numpy().tobytes() + features.numpy().tobytes()


@pytest.mark.parametrize("x", [large(), large().t()], ids=["rows", "columns"])
def test_threads_and_tiers_do_not_matter(x):
    previous = torch.get_num_threads(), _ops.cpu_isa()
    found = set()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.add(run(x))
        for isa in _ops.cpu_isas():
            _ops.set_cpu_isa(isa)
            found.add(run(x))
    finally:
        torch.set_num_threads(previous[0])
        _ops.set_cpu_isa(previous[1])
    assert len(found) == 1


def test_blocks_do_not_matter():
    body = _ops.accumulate_with_cuda_body_on_host
    found = {run(large(), lambda *a, n=n: body(*a, blocks=n)) for n in (1, 2, 50)}
    assert len(found) == 1


def test_more_dimensions_than_the_engine_has(accumulate):
    x = normal(2**9, torch.float32).view((2,) * 9).permute(3, 1, 0, 2, 8, 7, 6, 5, 4)
    totals, features = new_totals(), torch.zeros(3, 2, dtype=torch.float64)
    accumulate(x, totals, features, 0, -1.0, 1.0, 1)
    check(totals[0], x, low=-1.0, high=1.0)
    check_features(features, x)


X, TOTALS = torch.zeros(4, 5), new_totals(2)
REFUSED = {
    "x": [{"x": torch.zeros(3, dtype=torch.int32)}, {"x": torch.zeros(3, dtype=torch.cfloat)}],
    "totals": [
        {"totals": TOTALS.float()}, {"totals": TOTALS[0]}, {"totals": TOTALS[:, :13]},
        {"totals": new_totals(76).t()}, {"row": 2}, {"row": -1}, {"totals": TOTALS.to("meta")},
    ],
    "features": [{"features": torch.zeros(3, 5)}, {"features": new_totals(3)[:, :5]}],
    "scale": [{"scale": torch.ones(2)}, {"scale": torch.ones((), dtype=torch.float64)}],
    "gate": [{"gate": torch.ones(())}, {"gate": torch.ones(2, dtype=torch.bool)}],
}  # fmt: skip


@pytest.mark.parametrize("argument", REFUSED)
def test_bad_arguments_are_refused_before_anything_changes(argument):
    for bad in REFUSED[argument]:
        arguments = {
            "x": X,
            "totals": TOTALS,
            "features": None,
            "row": 0,
            "low": -1.0,
            "high": 1.0,
            "order": 1,
        }
        with pytest.raises((TypeError, ValueError), match=argument):
            _ops.accumulate_moments_(**arguments | bad)
    assert (TOTALS == 0).all()


def test_operator_is_well_defined():
    x, totals = normal(60, torch.float32).view(6, 10), new_totals(2)
    features = torch.zeros(3, 10, dtype=torch.float64)
    gate, scale = torch.ones((), dtype=torch.bool), torch.tensor(2.0)
    operator = torch.ops.torch_init.accumulate_moments_.default
    for optional in ((features, 1, -1.0, 1.0, 5, scale, gate), (None, 0, -1.0, 1.0, 5)):
        torch.library.opcheck(operator, (x, totals, *optional))


def test_compiles_without_a_break():
    totals, features = new_totals(2), torch.zeros(3, 16, dtype=torch.float64)
    gate = torch.ones((), dtype=torch.bool)

    def step(x, gate):
        y = torch.relu(x * 2)
        _ops.accumulate_moments_(y, totals, features, 1, -INF, 1.0, 4, None, gate)
        return y.sum()

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    x = normal(8 * 16, torch.float32).view(8, 16)
    compiled(x, gate)
    y = torch.relu(x * 2)
    check(totals[1], y, high=1.0)
    check_features(features, y)
    compiled(x, torch.zeros((), dtype=torch.bool))
    assert totals[1, 0] == 1


def test_a_hook_sees_gradients():
    totals = new_totals()
    x = normal(100, torch.float32).requires_grad_()
    y = x * 3
    y.register_hook(lambda g: _ops.accumulate_moments_(g.detach(), totals, None, 0, -1, 1, 1))
    (y * y).sum().backward()
    check(totals[0], 2 * y.detach(), low=-1, high=1)
