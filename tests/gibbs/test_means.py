# SPDX-License-Identifier: Apache-2.0
"""Hidden means in fixed point: docs/gibbs.md, section 6, in NumPy, bit for bit."""

import gibbs_reference as reference
import numpy as np
import pytest
import torch

from torch_init import _ops, _ops_gibbs, _ops_gibbs_cuda

KEY = {"seed": 7, "name": "rbm", "first_chain": 5}
SIZES = [(1, 1, 1), (9, 30, 17), (100, 70, 33), (130, 5, 100)]


def layer(visible, hidden, scale=0.5):
    generator = torch.Generator().manual_seed(visible)
    sizes = ((visible, hidden), (visible,), (hidden,))
    return [scale * torch.randn(size, generator=generator) for size in sizes]


def states(chains, units, levels=1):
    generator = torch.Generator().manual_seed(chains)
    return torch.randint(0, levels + 1, (chains, units), generator=generator, dtype=torch.uint8)


def check(found, want):
    np.testing.assert_array_equal(found.numpy(), want)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("units", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_means(isa, size, units, scale):
    chains, visible, hidden = size
    parameters = layer(visible, hidden, scale)
    weights, v = _ops.quantize(*parameters), states(chains, visible)
    want = reference.means(reference.quantize(*parameters), v.numpy(), units=units)
    kinds = tuple(("bernoulli", "spin")[unit] for unit in units)
    check(_ops.hidden_means(weights, v, units=kinds), want)
    # Together with states, those that are drawn without means, in one sweep or several.
    out = torch.empty(chains, hidden, dtype=torch.int16)
    drawn = _ops.sample_hidden(weights, v, units=kinds, means=out, **KEY)
    assert torch.equal(drawn, _ops.sample_hidden(weights, v, units=kinds, **KEY))
    check(out, want)
    how = {"start": "hidden", "units": kinds, "sweeps": 2, **KEY}
    seen, last = _ops.gibbs(weights, None, drawn.clone(), means=out, **how)
    other, same = _ops.gibbs(weights, None, drawn.clone(), **how)
    assert torch.equal(seen, other) and torch.equal(last, same)
    check(out, reference.means(reference.quantize(*parameters), seen.numpy(), units=units))
    only = torch.empty_like(out)
    other, last = _ops.gibbs(weights, None, drawn.clone(), means=only, means_only=True, **how)
    assert torch.equal(seen, other) and torch.equal(only, out)
    # What the half-step before the last of the hidden units has drawn is kept.
    _, drawn = _ops.gibbs(weights, None, drawn, **how | {"sweeps": 1})
    assert torch.equal(last, drawn)


def test_are_sigmoids_to_half_a_unit(isa):
    bias = torch.linspace(-30, 30, 6001)
    weights = _ops.quantize(torch.zeros(1, 6001), torch.zeros(1), bias)
    found = _ops.hidden_means(weights, torch.zeros(1, 1, dtype=torch.uint8))[0].double()
    exact = 32767 * torch.sigmoid(weights.dequantized()[2])
    assert (found - exact).abs().max() < 0.51
    assert found[0] == 0 and found[-1] == 32767
    assert torch.equal(found[:3000], 32767 - found.flip(0)[:3000])


def test_temperatures(isa):
    parameters, v = layer(40, 20), states(50, 40)
    beta, of_units = torch.rand(50) * 3, torch.rand(20) * 2
    want = reference.means(
        reference.quantize(*parameters), v.numpy(), beta=beta, unit_beta=(None, of_units)
    )
    weights = _ops.quantize(*parameters)
    check(_ops.hidden_means(weights, v, beta=beta, unit_beta=(None, of_units)), want)


def test_grey_levels(isa):
    parameters, v = layer(40, 20), states(50, 40, levels=255)
    weights = _ops.quantize(*parameters)
    want = reference.means(reference.quantize(*parameters), v.numpy(), levels=255)
    check(_ops.hidden_means(weights, v, levels=255), want)
    on = states(50, 40)
    found = _ops.hidden_means(weights, 255 * on, levels=255)
    assert torch.equal(found, _ops.hidden_means(weights, on))


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize(
    ("levels", "path"),
    [(1, {}), (255, {}), (1, {"split": True}), (1, {"clusters": (1, 8)})],
    ids=["tiles", "grey tiles", "split", "clusters"],
)
def test_cuda_body(levels, only, path):
    weights, v = _ops.quantize(*layer(40, 21)), states(19, 40, levels)
    want = torch.empty(19, 21, dtype=torch.int16)
    drawn = _ops.sample_hidden(weights, v, levels=levels, means=want, **KEY)
    out, hidden = torch.empty_like(want), torch.full_like(drawn, 9)
    _ops_gibbs_cuda.gibbs_with_cuda_body_on_host(
        weights,
        v,
        hidden,
        key=_ops_gibbs.stream_key(7, "rbm"),
        first_chain=5,
        half_steps=1,
        levels=levels,
        means=out,
        means_only=only,
        **path,
    )
    assert torch.equal(out, want)
    assert torch.equal(hidden, torch.full_like(drawn, 9) if only else drawn)


def test_no_chains():
    weights = _ops.quantize(*layer(4, 3))
    assert _ops.hidden_means(weights, states(0, 4)).shape == (0, 3)


def test_wrong_means():
    weights = _ops.quantize(*layer(4, 3))
    for out in (torch.empty(2, 3), torch.empty(3, 2, dtype=torch.int16).T):
        with pytest.raises(ValueError, match=r"gibbs: means: expected a contiguous int16"):
            _ops.sample_hidden(weights, states(2, 4), means=out, **KEY)
    out = torch.empty(2, 3, dtype=torch.int16)
    with pytest.raises(ValueError, match="gibbs: means: expected None"):
        _ops.gibbs(weights, states(2, 4), None, means=out, **KEY)
