# SPDX-License-Identifier: Apache-2.0
"""Training a machine on a GPU: the CPU's bits, no waiting within an epoch, in a graph."""

import contextlib
import itertools

import pytest
import torch

from torch_init import _ops, _ops_device
from torch_init.rbm import RBM, Spin
from torch_init.rbm.data import as_source
from torch_init.rbm.options import Options
from torch_init.rbm.parallel import Processes
from torch_init.rbm.run import Training

pytestmark = pytest.mark.cuda

LAYERS = [(1, 1), (65, 130), (784, 500), (2100, 300)]
VISIBLE = 120


@pytest.fixture(autouse=True)
def kernels(engine):
    """The kernels on the GPU; of the stand-in, their bodies for tensors that are its own."""
    on_host = engine.device.type == "cpu"
    return _ops_device.cuda_bodies_on_host if on_host else contextlib.nullcontext


def uniform(*size, seed):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)) - 0.5


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer", [*LAYERS, (0, 5), (5, 0)])
def test_quantize(engine, kernels, layer, dtype, scale):
    sizes = (layer, layer[:1], layer[1:])
    given = [scale * uniform(*size, seed=k).to(dtype) for k, size in enumerate(sizes)]
    expected = _ops.quantize(*given)
    moved = [x.to(engine.device) for x in given]
    with kernels():
        found = None
        for _ in range(3):  # in the memory of the one before, which must be left as it was found
            found = _ops.quantize(*moved, out=found)
    assert found.shift == expected.shift
    assert torch.equal(found.by_visible.cpu(), expected.by_visible)
    assert torch.equal(found.by_hidden.cpu(), expected.by_hidden)
    of_expected = expected.biases + expected.sums
    for a, b in zip(found.biases + found.sums, of_expected, strict=True):
        assert torch.equal(a.cpu(), b)


@pytest.mark.parametrize("more", [-0.4, 0.0, 0.4])
def test_sums_at_their_limit(engine, kernels, more):
    """Rounding 256 numbers decides, of which the last block makes exact sums."""
    for excess in (0, 1):
        weight = torch.full((256, 1), 2.0**22, dtype=torch.float64)
        weight[0] += excess - 1
        given = [(weight + more) * 2.0**-20, weight.new_zeros(256), weight.new_zeros(1)]
        with kernels():
            found = _ops.quantize(*(x.to(engine.device) for x in given))
        assert found.shift == 20 - excess == _ops.quantize(*given).shift


def test_unfit_numbers(engine, kernels):
    given = [uniform(70, 40, seed=0), torch.zeros(70), torch.full((40,), float("nan"))]
    moved = [x.to(engine.device) for x in given]
    with kernels():
        with pytest.raises(ValueError, match="finite numbers"):
            _ops.quantize(*moved)
        found = _ops.quantize(*moved, check=False)
    assert found.scale.tolist() == [0, 0]
    assert not found.by_visible.any()
    assert not found.limbs[0].any()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32])
@pytest.mark.parametrize(("visible", "hidden"), [*LAYERS, (20, 1100)])
def test_ascend(engine, kernels, visible, hidden, dtype):
    results = []
    for on_gpu in (False, True):
        place = engine.device if on_gpu else torch.device("cpu")
        vectors = [uniform(n, seed=k).to(place) for k, n in enumerate((visible, hidden) * 3)]
        pairs = (10_000 * uniform(visible, hidden, seed=6)).to(place, dtype)
        slope = _ops.Slope(pairs, 1e-4, *vectors[:4])
        pace = _ops.Pace(0.05, 0.9, 1e-3, 1e-4, vectors[5], vectors[4])
        weight, velocity = (uniform(hidden, visible, seed=k).to(place) for k in (7, 8))
        gradient = torch.empty_like(weight)
        with kernels() if on_gpu else contextlib.nullcontext():
            shifts = _ops.ascend(weight, velocity, slope, pace, gradient)
        results.append([x.cpu() for x in (weight, velocity, gradient, *shifts)])
    assert all(map(torch.equal, *results))


RUNS = {
    "cd": {},
    "cd-3 without centring": {"k": 3, "centered": False},
    "samples": {"statistics": "samples"},
    "pcd": {"algorithm": "pcd", "chains": 37},
    "fpcd": {"algorithm": "fpcd"},
    "penalties": {"weight_decay": 1e-3, "l1": 1e-4, "momentum": 0.0},
    "gradient norm": {"monitors": ("reconstruction", "gradient_norm")},
}


def rows(spins=False):
    drawn = (uniform(300, VISIBLE, seed=4) < -0.2).float()
    return 2 * drawn - 1 if spins else drawn


def trained(machine, data, **options):
    machine.fit(data, epochs=3, batch_size=100, learning_rate=0.1, **options)
    return [parameter.detach().cpu() for parameter in machine.parameters()]


@pytest.mark.parametrize("spins", [False, True])
@pytest.mark.parametrize("data_on_gpu", [True, False])
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_training_is_the_cpus(engine, kernels, options, data_on_gpu, spins):
    visible = Spin(VISIBLE) if spins else VISIBLE
    expected = trained(RBM(visible, 50, std=0.1), rows(spins), **options)
    data = rows(spins).to(engine.device if data_on_gpu else "cpu")
    with kernels():
        found = trained(RBM(visible, 50, std=0.1, device=engine.device), data, **options)
    # fpcd and the norm use sums of torch's; without vectors, torch rounds a bias's product.
    exact = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    for a, b in zip(found, expected, strict=True):
        if exact and not {"fpcd"} & set(map(str, options.values())):
            assert torch.equal(a, b)
        else:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-2)


def begun(device, **options):
    """Training on the GPU before its first update, and the batches of the first epoch."""
    machine = RBM(VISIBLE, 50, std=0.1, device=device)
    source = as_source("fit", rows().to(device), machine)
    means = source.scan()
    chosen = Options(batch_size=50, centered=True, **options)
    training = Training(machine, source, None, chosen, Processes())
    training.begin(means)
    return training, training._batches(0, 0)


def step(training, batch):
    training._step(*batch, 0)
    training.update += 1


@pytest.fixture
def strict(gpu):
    """Raise wherever torch would make the host wait."""
    yield gpu
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("options", [{}, {"algorithm": "pcd"}, {"statistics": "samples"}], ids=str)
def test_nobody_waits_within_an_epoch(strict, options):
    training, batches = begun(strict, **options)
    step(training, next(batches))  # makes what later ones use again
    torch.cuda.set_sync_debug_mode("error")
    for batch in batches:
        step(training, batch)
    torch.cuda.set_sync_debug_mode("default")
    assert training.update == 6


@pytest.mark.parametrize("options", [{}, {"algorithm": "pcd"}], ids=str)
def test_an_update_in_a_graph(gpu, options):
    results = []
    for in_graph in (False, True):
        training, batches = begun(gpu, **options)
        for batch in itertools.islice(batches, 2):
            step(training, batch)
        last = next(batches)
        if in_graph:
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step(training, last)
            graph.replay()
        else:
            step(training, last)
        results.append([x.detach().cpu() for x in training.machine.parameters()])
    assert all(map(torch.equal, *results))


def test_divergence_is_told_after_the_epoch(engine, kernels):
    machine = RBM(VISIBLE, 50, std=0.1, device=engine.device)
    with kernels(), pytest.raises(FloatingPointError, match="diverged in epoch 1"):
        machine.fit(rows().to(engine.device), epochs=3, batch_size=50, learning_rate=1e30)
