# SPDX-License-Identifier: Apache-2.0
"""What is asked of the bodies of the Gibbs kernels. Here of PTX, with every access checked."""

import borrowed
import pytest
import torch

from torch_init import _ops, _ops_gibbs_cuda

BODIES = borrowed.load("gibbs/test_cuda_body.py")
MEANS = borrowed.load("gibbs/test_means.py")
STATISTICS = borrowed.load("gibbs/test_statistics.py")
FLOAT_UNITS = borrowed.load("gibbs/test_float_units.py")

globals().update(borrowed.tests_of(BODIES, "monkeypatch"))
test_means = MEANS.test_cuda_body
for name in ("test_cuda_body", "test_cuda_body_of_terms_of_two_kinds"):
    globals()[name.replace("cuda_body", "statistics")] = getattr(STATISTICS, name)
test_float_units = FLOAT_UNITS.test_cuda_body


@pytest.fixture(autouse=True)
def kernels(on_ptx):
    return on_ptx


@pytest.fixture
def isa():
    """Of test_float_units: the CPU's own."""


@pytest.mark.parametrize("of_cluster", [8, 16, 32])
def test_a_layer_that_fills_a_cluster(monkeypatch, of_cluster):
    """Of 784 x 500 units and 16 blocks, as an H100 runs it; the last cluster has few chains."""
    monkeypatch.setattr("torch_init._ops_gibbs.stream_key", lambda seed, name: BODIES.KEY)
    weights, chains = BODIES.layer(784, 500), of_cluster + 3
    v, h = BODIES.states(chains, 784), BODIES.states(chains, 500)
    found = v.clone(), h.clone()
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(
        weights, *found, key=BODIES.KEY, half_steps=2, clusters=(4, of_cluster)
    )
    _ops.gibbs(weights, v, h, seed=0, sweeps=1)
    assert torch.equal(found[0], v)
    assert torch.equal(found[1], h)
