# SPDX-License-Identifier: Apache-2.0
"""Tensors are read on a GPU as on the CPU, which the other tests compare with NumPy."""

import math

import numpy as np
import pytest
import torch
from cases import COMPLEX_DTYPES, LAYOUTS, REAL_DTYPES

from torch_init import _ops

pytestmark = pytest.mark.cuda

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
FLOW_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
ROUNDED = ("sum", "sum_squares")  # in another order than the CPU's
COUNTED = [name for name in _ops.MEASUREMENT.names if name not in ROUNDED]


def random_bits(size, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randint(0, 256, (size * dtype.itemsize,), dtype=torch.uint8, generator=generator)
    return raw.view(dtype)


def normal(size, dtype, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_same(found, wanted):
    for name in COUNTED:
        assert (found[name] == wanted[name]).all(), name


def test_read_back_has_the_cpus_integers(engine):
    """Of random bits, in every layout and dtype, all in one call, and a part far away."""
    pairs = []
    for size, view in LAYOUTS.values():
        for dtype in (*REAL_DTYPES, *COMPLEX_DTYPES):
            memory = random_bits(size, dtype)
            pairs.append((view(memory), view(memory.to(engine.device))))
    for dtype in REAL_DTYPES:
        memory = random_bits(200_003, dtype)
        pairs.append((memory[1:], memory.to(engine.device)[1:]))
    entries = [[(pair[side],) for pair in pairs] for side in (0, 1)]
    for side, device in enumerate(("cpu", engine.device)):
        entries[side].append((random_bits(70_001, torch.bfloat16).to(device), 2**40 - 7, (1,)))
    assert_same(engine.measure(entries[1]), _ops.measure(entries[0]))


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_read_back_has_the_cpus_sums(engine, dtype):
    x = normal(1_000_003, dtype)
    (found,), (wanted,) = engine.measure([(x.to(engine.device),)]), _ops.measure([(x,)])
    size = x.double().abs().sum().item()
    assert abs(found["sum"] - wanted["sum"]) <= 1e-12 * size
    assert found["sum_squares"] == pytest.approx(wanted["sum_squares"], rel=1e-12)


def finite_bits(size, dtype):
    """Every finite value, zeros and subnormals among them."""
    bits = random_bits(size, dtype)
    bits.view(INTEGERS[dtype.itemsize])[~bits.double().isfinite()] = 0
    return bits


@pytest.mark.parametrize("dtype", REAL_DTYPES, ids=str)
def test_finite_bits_have_the_cpus_integers(engine, dtype):
    """Read by words, but for the ends; and all but one thread's share with one NaN."""
    x = finite_bits(300_000, dtype)
    with_nan = x.clone()
    with_nan[123_456] = math.nan
    parts = [x, x[5:], x[3:-7], x[1000:2000], x[:4097], with_nan]
    entries = [[(part.to(device),) for part in parts] for device in ("cpu", engine.device)]
    assert_same(engine.measure(entries[1]), _ops.measure(entries[0]))


@pytest.mark.parametrize("dtype", FLOW_DTYPES, ids=str)
@pytest.mark.parametrize("low", [-1.0, -math.inf], ids=["limits", "no limits"])
def test_flow_has_the_cpus_counts_of_finite_bits(engine, dtype, low):
    x = finite_bits(300_000, dtype)
    rows = []
    for accumulate, on in ((_ops.accumulate_moments_, x), (engine.accumulate, x.to(engine.device))):
        totals = torch.zeros(1, 76, dtype=torch.float64, device=on.device)
        accumulate(on, totals, None, 0, low, -low, 1, None, None)
        rows.append(totals.cpu()[0, [0, 1, *range(4, 76)]])
    assert rows[0].equal(rows[1])
    assert (rows[0][4:6] > 0).all() == (low == -1.0)


def accumulated(accumulate, x, scale, gate):
    totals = torch.zeros(2, 76, dtype=torch.float64, device=x.device)
    features = torch.zeros(3, x.shape[-1], dtype=torch.float64, device=x.device)
    scale = torch.tensor(scale, device=x.device)
    gate = torch.tensor(gate, device=x.device)
    accumulate(x, totals, features, 1, -1.0, 0.5, 9, scale, gate)
    return totals.cpu().numpy(), features.cpu().numpy()


SHAPES = {
    "one": lambda x: x[:1],
    "rows": lambda x: x[:299_712].view(-1, 96),
    "odd rows": lambda x: x[1:299_925].view(-1, 97),
    "columns": lambda x: x[:299_712].view(96, -1).t(),
    "channels": lambda x: x[:288_000].view(10, 32, 30, 30).movedim(1, -1),
    "strided": lambda x: x[:299_712].view(-1, 96)[::3, 5:60],
    "no rows": lambda x: x[:0].view(0, 5),
}


@pytest.mark.parametrize("dtype", FLOW_DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_flow_has_the_cpus_counts_and_sums(engine, dtype, shape):
    memory = normal(300_000, dtype)
    memory[::1009] = 0
    memory[5::7001] = math.nan
    x, on_device = SHAPES[shape](memory), SHAPES[shape](memory.to(engine.device))
    wanted = accumulated(_ops.accumulate_moments_, x, 3.0, True)
    found = accumulated(engine.accumulate, on_device, 3.0, True)
    for got, want in zip(found, wanted, strict=True):
        assert np.allclose(got, want, rtol=1e-11, atol=1e-11)
    counts = [0, 1, *range(4, 76)]
    assert (found[0][:, counts] == wanted[0][:, counts]).all()
    assert (found[1][0] == wanted[1][0]).all()


def test_a_closed_gate_stops_everything(engine):
    x = normal(10_000, torch.float32).view(100, 100).to(engine.device)
    totals, features = accumulated(engine.accumulate, x, 1.0, False)
    assert (totals == 0).all() and (features == 0).all()


@pytest.fixture
def watched(gpu):
    x = normal(300_000, torch.float32).view(300, 1000).to(gpu)
    totals = torch.zeros(1, 76, dtype=torch.float64, device=gpu)
    features = torch.zeros(3, 1000, dtype=torch.float64, device=gpu)
    gate = torch.ones((), dtype=torch.bool, device=gpu)

    def call():
        _ops.accumulate_moments_(x, totals, features, 0, -1.0, 1.0, 1, None, gate)

    call()
    torch.cuda.synchronize()
    return call, totals, gate


def test_flow_does_not_synchronise(watched):
    call, totals, _ = watched
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert totals[0, 0].item() == 2


def test_a_graph_captures_flow(watched):
    """Each replay adds a call with the same sums; the gate is read when it runs."""
    call, totals, gate = watched
    once = totals.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    graph.replay()
    graph.replay()
    gate.fill_(False)
    graph.replay()
    torch.cuda.synchronize()
    exact = [0, 1, *range(5, 9), *range(10, 76)]
    assert (totals[0, exact] == 3 * once[0, exact]).all()
    assert torch.allclose(totals[0, 2:4], 3 * once[0, 2:4], rtol=1e-14)
    assert totals[0, 4] == once[0, 4]
