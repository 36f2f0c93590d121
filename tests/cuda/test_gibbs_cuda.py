# SPDX-License-Identifier: Apache-2.0
"""Gibbs chains on a GPU: the CPU's bits, on any stream, in a graph."""

import pytest
import torch

from torch_init import _ops, _ops_gibbs, _ops_gibbs_weights

pytestmark = pytest.mark.cuda

UNITS = [(a, b) for a in ("bernoulli", "spin") for b in ("bernoulli", "spin")]
SEED = {"seed": 3, "name": "rbm", "first_chain": 7}
SIZES = [(1, 1, 1), (100, 784, 500), (1000, 67, 129)]
# At and around the edges of tiles, and more tiles than a GPU has room for.
TILES = [(7, 31, 129), (127, 33, 1), (129, 129, 33), (257, 49, 47), (4096, 784, 500)]
# Layers and batches for a cluster of each size, and with 8, 16 and 32 chains of it on a GPU of 132
# multiprocessors: 1, 2, 4, 8 and 16 blocks.
CLUSTERS = [
    (8, 30, 20),
    (3000, 100, 90),
    (1, 300, 200),
    (500, 300, 300),
    (300, 400, 450),
    (180, 500, 520),
    (100, 784, 500),
    (190, 784, 500),
]


@pytest.fixture(params=["tiles", "split", "cluster"])
def path(request):
    """Each way of running chains, which is taken or refused: never another instead."""
    properties = torch.cuda.get_device_properties(0)
    few = properties.major < 9 or properties.shared_memory_per_block_optin < 227 * 1024
    if request.param == "cluster" and (few or properties.multi_processor_count < 114):
        pytest.skip("the layers fit clusters of thread blocks as large as an H100's")
    _ops.set_cuda_path(request.param)
    yield request.param
    _ops.set_cuda_path("fastest")


def layer(visible, hidden, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    sizes = ((visible, hidden), (visible,), (hidden,))
    return _ops.quantize(*(torch.randn(s, generator=generator).to(device) for s in sizes))


def states(chains, units, levels=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(levels + 1, (chains, units), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_quantize(size):
    expected, found = layer(*size[1:]), layer(*size[1:], device="cuda").cpu()
    assert found.shift == expected.shift
    assert torch.equal(found.by_visible, expected.by_visible)
    assert torch.equal(found.by_hidden, expected.by_hidden)
    assert all(map(torch.equal, found.biases + found.sums, expected.biases + expected.sums))


@pytest.mark.parametrize(("chains", "visible", "hidden"), [*SIZES, (3, 0, 5), (3, 5, 0)])
def test_limbs(chains, visible, hidden):
    found = layer(visible, hidden, "cuda").limbs
    expected = _ops_gibbs_weights.with_limbs(layer(visible, hidden)).limbs
    assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))


def test_weights_that_lie_transposed_and_memory_used_again(path):
    weight, v = torch.randn(50, 70, generator=torch.Generator().manual_seed(0)).T, states(40, 70)
    biases = torch.zeros(70), torch.ones(50)
    expected = _ops.gibbs(_ops.quantize(weight, *biases), v.clone(), None, **SEED)
    spent = layer(70, 50, "cuda")
    weights = _ops.quantize(weight.cuda(), *(x.cuda() for x in biases), out=spent)
    found = _ops.gibbs(weights, v.cuda(), None, **SEED)
    assert torch.equal(found[1].cpu(), expected[1])
    assert weights.limbs[0].data_ptr() == spent.limbs[0].data_ptr()


@pytest.mark.parametrize("units", UNITS, ids="-".join)
@pytest.mark.parametrize("start", ["visible", "hidden"])
@pytest.mark.parametrize(("chains", "visible", "hidden"), SIZES)
def test_sweeps(path, units, start, chains, visible, hidden):
    clamp = (torch.arange(visible) % 5 == 0).to(torch.uint8)
    how = {
        **SEED,
        "units": units,
        "start": start,
        "sweeps": 3,
        "beta": torch.linspace(0, 2, chains),
    }
    v, h = states(chains, visible), states(chains, hidden)
    found = _ops.gibbs(
        layer(visible, hidden, "cuda"), v.cuda(), h.cuda(), clamp=clamp.cuda(), **how
    )
    expected = _ops.gibbs(layer(visible, hidden), v, h, clamp=clamp, **how)
    assert torch.equal(found[0].cpu(), expected[0])
    assert torch.equal(found[1].cpu(), expected[1])


@pytest.mark.parametrize(("chains", "visible", "hidden"), CLUSTERS)
def test_many_sweeps(path, chains, visible, hidden):
    """What one launch might lose on the way: a barrier, a word, a step."""
    weights, v = layer(visible, hidden), states(chains, visible)
    device_weights, on_device = layer(visible, hidden, "cuda"), v.cuda()
    expected = _ops.gibbs(weights, v, None, sweeps=50, **SEED)
    for _ in range(3):
        found = _ops.gibbs(device_weights, on_device.clone(), None, sweeps=50, **SEED)
        assert torch.equal(found[0].cpu(), expected[0])
        assert torch.equal(found[1].cpu(), expected[1])


@pytest.mark.parametrize(("chains", "visible", "hidden"), TILES)
def test_half_steps_that_start_early(monkeypatch, chains, visible, hidden):
    """What a half-step might read before the one before has written it."""
    monkeypatch.setattr(_ops_gibbs, "_cuda_path", "tiles")
    weights, v = layer(visible, hidden), states(chains, visible)
    device_weights, on_device = layer(visible, hidden, "cuda"), v.cuda()
    expected = _ops.gibbs(weights, v, None, sweeps=20, **SEED)
    for _ in range(3):
        found = _ops.gibbs(device_weights, on_device.clone(), None, sweeps=20, **SEED)
        assert torch.equal(found[0].cpu(), expected[0])
        assert torch.equal(found[1].cpu(), expected[1])


@pytest.mark.parametrize(("chains", "visible", "hidden"), [(130, 3000, 2100), (1, 5000, 40)])
@pytest.mark.parametrize("half_steps", ["tiles", "split", "fastest"])
def test_layers_too_large_for_clusters(monkeypatch, half_steps, chains, visible, hidden):
    monkeypatch.setattr(_ops_gibbs, "_cuda_path", half_steps)
    weights, v = layer(visible, hidden), states(chains, visible)
    found = _ops.gibbs(layer(visible, hidden, "cuda"), v.cuda(), None, sweeps=2, **SEED)
    expected = _ops.gibbs(weights, v, None, sweeps=2, **SEED)
    assert torch.equal(found[0].cpu(), expected[0])
    assert torch.equal(found[1].cpu(), expected[1])


def test_a_cluster_too_small_says_so(monkeypatch):
    monkeypatch.setattr(_ops_gibbs, "_cuda_path", "cluster")
    weights = layer(3000, 2100, "cuda")
    with pytest.raises(RuntimeError, match="no cluster of this GPU"):
        _ops.gibbs(weights, states(5, 3000).cuda(), None, **SEED)


@pytest.mark.parametrize(("chains", "visible", "hidden"), SIZES)
def test_grey_levels_and_statistics(chains, visible, hidden):
    grey = states(chains, visible, levels=255)
    found = _ops.sample_hidden(layer(visible, hidden, "cuda"), grey.cuda(), levels=255, **SEED)
    expected = _ops.sample_hidden(layer(visible, hidden), grey, levels=255, **SEED)
    assert torch.equal(found.cpu(), expected)
    v = states(chains, visible)
    assert torch.equal(
        _ops.statistics(_ops.Term(v.cuda(), found)).pairs.cpu(),
        _ops.statistics(_ops.Term(v, expected)).pairs,
    )


def test_in_a_graph(path):
    weights, v = layer(784, 500, "cuda"), states(100, 784).cuda()
    expected = _ops.gibbs(weights, v.clone(), None, sweeps=2, **SEED)
    hidden, again = torch.zeros(100, 500, dtype=torch.uint8, device="cuda"), v.clone()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _ops.gibbs(weights, again, hidden, sweeps=2, **SEED)
    graph.replay()
    assert torch.equal(again, expected[0])
    assert torch.equal(hidden, expected[1])


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize(("chains", "visible", "hidden"), SIZES)
def test_means(path, chains, visible, hidden, only):
    weights, h = layer(visible, hidden), states(chains, hidden)
    found, expected = (torch.zeros(chains, hidden, dtype=torch.int16) for _ in range(2))
    how = {**SEED, "start": "hidden", "sweeps": 2, "means_only": only}
    want = _ops.gibbs(weights, None, h, means=expected, **how)
    found = found.cuda()
    got = _ops.gibbs(
        layer(visible, hidden, "cuda"), None, states(chains, hidden).cuda(), means=found, **how
    )
    assert torch.equal(found.cpu(), expected)
    assert torch.equal(got[0].cpu(), want[0])
    assert torch.equal(got[1].cpu(), want[1])


def test_means_of_grey_levels():
    grey = states(130, 300, levels=255)
    found = _ops.hidden_means(layer(300, 70, "cuda"), grey.cuda(), levels=255)
    assert torch.equal(found.cpu(), _ops.hidden_means(layer(300, 70), grey, levels=255))


@pytest.mark.parametrize("means", [False, True])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize(("chains", "visible", "hidden"), [*SIZES, (0, 3, 4), (33, 65, 257)])
def test_statistics(chains, visible, hidden, dtype, means):
    v, h = states(chains, visible), states(chains, hidden)
    if means:
        h = h.to(torch.int16) * 32766 + 1
    out = torch.full((visible, hidden), 5, dtype=dtype)
    for weights, accumulate in (((-3,), True), ((2, -5), False)):
        found, expected = (
            _ops.statistics(
                *(_ops.Term(a, b, weight=weight) for weight in weights),
                out=out.to(a.device, copy=True),
                accumulate=accumulate,
            )
            for a, b in ((v.cuda(), h.cuda()), (v, h))
        )
        assert torch.equal(found.pairs.cpu(), expected.pairs)
        assert torch.equal(found.sums.cpu(), expected.sums)


def test_statistics_of_grey_levels():
    v, h = states(40_000, 20, levels=255), states(40_000, 30).to(torch.int16) * 32767
    found, expected = (
        _ops.statistics(
            _ops.Term(a, b, levels=255),
            out=torch.zeros(20, 30, dtype=torch.int64, device=a.device),
        )
        for a, b in ((v.cuda(), h.cuda()), (v, h))
    )
    assert torch.equal(found.pairs.cpu(), expected.pairs)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "nrelu", "softmax"])
def test_float_units(kind):
    size = (40, 30, 5) if kind == "softmax" else (40, 30)
    field = torch.randn(size, generator=torch.Generator().manual_seed(0))
    sample = getattr(_ops, f"sample_{kind}")
    assert torch.equal(sample(field.cuda(), **SEED).cpu(), sample(field, **SEED))
