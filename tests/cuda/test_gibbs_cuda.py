# SPDX-License-Identifier: Apache-2.0
"""Gibbs chains on a GPU: the CPU's bits, on any stream, in a graph."""

import pytest
import torch

from torch_init import _ops

pytestmark = pytest.mark.cuda

UNITS = [(a, b) for a in ("bernoulli", "spin") for b in ("bernoulli", "spin")]
SEED = {"seed": 3, "name": "rbm", "first_chain": 7}
SIZES = [(1, 1, 1), (100, 784, 500), (1000, 67, 129)]


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


@pytest.mark.parametrize("units", UNITS, ids="-".join)
@pytest.mark.parametrize("start", ["visible", "hidden"])
@pytest.mark.parametrize(("chains", "visible", "hidden"), SIZES)
def test_sweeps(units, start, chains, visible, hidden):
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


def test_in_a_graph():
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


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "nrelu", "softmax"])
def test_float_units(kind):
    size = (40, 30, 5) if kind == "softmax" else (40, 30)
    field = torch.randn(size, generator=torch.Generator().manual_seed(0))
    sample = getattr(_ops, f"sample_{kind}")
    assert torch.equal(sample(field.cuda(), **SEED).cpu(), sample(field, **SEED))
