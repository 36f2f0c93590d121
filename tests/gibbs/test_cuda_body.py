# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels' bodies, run by the host, against the host's own tiers."""

import pytest
import torch

from torch_init import _ops, _ops_gibbs

UNITS = [(a, b) for a in ("bernoulli", "spin") for b in ("bernoulli", "spin")]
KEY = 0x123456789ABCDEF


def layer(visible, hidden):
    generator = torch.Generator().manual_seed(0)
    sizes = ((visible, hidden), (visible,), (hidden,))
    return _ops.quantize(*(0.5 * torch.randn(size, generator=generator) for size in sizes))


def states(chains, units, levels=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(levels + 1, (chains, units), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("units", UNITS, ids="-".join)
@pytest.mark.parametrize("first_side", [0, 1])
@pytest.mark.parametrize("half_steps", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("chains", "visible", "hidden"), [(0, 3, 3), (1, 1, 1), (13, 30, 70), (40, 65, 17)]
)
def test_half_steps(monkeypatch, units, first_side, half_steps, chains, visible, hidden):
    monkeypatch.setattr("torch_init._ops_gibbs.stream_key", lambda seed, name: KEY)
    weights = layer(visible, hidden)
    how = {"first_chain": 5, "beta": torch.linspace(0, 2, chains), "units": units}
    how["unit_beta"] = (torch.linspace(0, 8, visible), torch.linspace(1, 2, hidden))
    how["clamp"] = (torch.arange(visible) % 4 == 0).to(torch.uint8)
    v, h = states(chains, visible), states(chains, hidden)
    found = v.clone(), h.clone()
    _ops_gibbs.gibbs_with_cuda_body_on_host(
        weights,
        *found,
        3,
        key=KEY,
        half_steps=half_steps,
        first_step=9,
        first_side=first_side,
        **how,
    )
    start = ("hidden", "visible")[first_side]
    sweeps = half_steps // 2
    _ops.gibbs(weights, v, h, seed=0, first_step=9, sweeps=sweeps, start=start, **how)
    if half_steps % 2:
        step = {"seed": 0, "step": 9 + sweeps}
        if first_side == 1:
            del how["clamp"]
            h = _ops.sample_hidden(weights, v, **step, **how)
        else:
            v = _ops.sample_visible(weights, h, out=v, **step, **how)
    assert torch.equal(found[0], v)
    assert torch.equal(found[1], h)


@pytest.mark.parametrize("chains", [0, 1, 6])
@pytest.mark.parametrize("hidden_units", ["bernoulli", "spin"])
def test_grey_levels(monkeypatch, chains, hidden_units):
    monkeypatch.setattr("torch_init._ops_gibbs.stream_key", lambda seed, name: KEY)
    weights = layer(50, 37)
    grey = states(chains, 50, levels=255)
    how = {"levels": 255, "units": ("bernoulli", hidden_units), "beta": 0.7}
    hidden = torch.zeros(chains, 37, dtype=torch.uint8)
    _ops_gibbs.gibbs_with_cuda_body_on_host(
        weights, grey, hidden, 2, key=KEY, half_steps=1, first_step=3, **how
    )
    assert torch.equal(hidden, _ops.sample_hidden(weights, grey, seed=0, step=3, **how))


def test_far_blocks_do_nothing():
    """More blocks than work, as the launcher may ask for."""
    weights, v, h = layer(5, 5), states(2, 5), states(2, 5)
    few, many = [v.clone(), h.clone()], [v.clone(), h.clone()]
    _ops_gibbs.gibbs_with_cuda_body_on_host(weights, *few, 1, key=KEY, half_steps=4)
    _ops_gibbs.gibbs_with_cuda_body_on_host(weights, *many, 100, key=KEY, half_steps=4)
    assert torch.equal(few[0], many[0])
    assert torch.equal(few[1], many[1])
