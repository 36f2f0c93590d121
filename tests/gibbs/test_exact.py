# SPDX-License-Identifier: Apache-2.0
"""Every bit of a chain: the tiers against docs/gibbs.md in NumPy."""

import gibbs_reference as reference
import numpy as np
import pytest
import torch

from torch_init import _ops

SIZES = [(1, 1), (5, 3), (16, 64), (17, 33), (40, 130), (131, 70)]
UNITS = [(a, b) for a in ("bernoulli", "spin") for b in ("bernoulli", "spin")]
KEY = {"seed": 3, "name": "rbm"}


def layer(visible, hidden, scale=0.5, seed=0):
    """Float32 weights and biases, which both sides quantise for themselves."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((visible, hidden), (visible,), (hidden,))
    return [scale * torch.randn(size, generator=generator) for size in sizes]


def states(chains, units, seed=1, levels=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(levels + 1, (chains, units), generator=generator, dtype=torch.uint8)


def expected_gibbs(parameters, visible, hidden, **how):
    units = how.pop("units", ("bernoulli", "bernoulli"))
    first_chain = how.pop("first_chain", 0)
    how["start"] = _ops_start(how.pop("start", "visible"))
    how["units"] = tuple(unit == "spin" for unit in units)
    how["chain"] = first_chain + np.arange(len(visible))
    exact = reference.quantize(*parameters)
    return reference.gibbs(exact, visible.numpy(), hidden.numpy(), **KEY, **how)


def _ops_start(start):
    return {"visible": reference.VISIBLE, "hidden": reference.HIDDEN}[start]


def assert_chains(parameters, visible, hidden, **how):
    native_how = dict(how)
    if "unit_beta" in how:
        native_how["unit_beta"] = tuple(map(torch.from_numpy, how["unit_beta"]))
    for name in ("beta", "clamp"):
        if isinstance(how.get(name), np.ndarray):
            native_how[name] = torch.from_numpy(how[name])
    expected = expected_gibbs(parameters, visible, hidden, **how)
    found = _ops.gibbs(
        _ops.quantize(*parameters), visible.clone(), hidden.clone(), **KEY, **native_how
    )
    np.testing.assert_array_equal(found[0].numpy(), expected[0])
    np.testing.assert_array_equal(found[1].numpy(), expected[1])


@pytest.mark.parametrize("units", UNITS, ids="-".join)
@pytest.mark.parametrize("start", ["visible", "hidden"])
@pytest.mark.parametrize(("visible", "hidden"), SIZES)
def test_sweeps(isa, visible, hidden, start, units):
    v, h = states(19, visible), states(19, hidden, seed=2)
    how = {"first_chain": 5, "first_step": 7, "sweeps": 2, "start": start, "units": units}
    assert_chains(layer(visible, hidden), v, h, **how)


@pytest.mark.parametrize("chains", [1, 15, 16, 17, 33, 50, 70, 95, 97, 113, 200])
def test_any_number_of_chains(isa, chains):
    assert_chains(layer(20, 13), states(chains, 20), states(chains, 13), first_step=0, sweeps=1)


@pytest.mark.parametrize("units", UNITS, ids="-".join)
def test_inverse_temperatures(isa, units):
    beta = np.linspace(0.0, 16.0, 21)
    how = {"first_step": 1, "sweeps": 2, "beta": beta, "units": units}
    assert_chains(layer(18, 21), states(21, 18), states(21, 21), **how)


@pytest.mark.parametrize("beta", [1.0, np.linspace(0.1, 2.0, 21)], ids=["one", "of chains"])
@pytest.mark.parametrize("units", UNITS, ids="-".join)
def test_inverse_temperatures_of_units(isa, units, beta):
    of_units = np.linspace(0.0, 8.0, 18), np.linspace(2.0, 0.3, 21)
    how = {"first_step": 1, "sweeps": 2, "beta": beta, "unit_beta": of_units, "units": units}
    assert_chains(layer(18, 21), states(21, 18), states(21, 21), **how)


@pytest.mark.parametrize("units", UNITS, ids="-".join)
def test_clamped_units(isa, units):
    clamp = (np.arange(37) % 3 == 0).astype(np.uint8)
    how = {"first_step": 2, "sweeps": 3, "clamp": clamp, "units": units}
    assert_chains(layer(37, 9), states(18, 37), states(18, 9), **how)


@pytest.mark.parametrize("first_step", [0, 2**31 - 1, 2**40])
@pytest.mark.parametrize("first_chain", [0, 2**32 - 40])
def test_far_chains_and_steps(isa, first_step, first_chain):
    how = {"first_step": first_step, "first_chain": first_chain, "sweeps": 2}
    assert_chains(layer(9, 6), states(40, 9), states(40, 6), **how)


@pytest.mark.parametrize("hidden_units", ["bernoulli", "spin"])
@pytest.mark.parametrize("beta", [1.0, 0.37])
def test_grey_levels(isa, hidden_units, beta):
    parameters = layer(50, 35)
    grey = states(20, 50, levels=255)
    units = ("bernoulli", hidden_units)
    found = _ops.sample_hidden(
        _ops.quantize(*parameters), grey, **KEY, step=4, levels=255, units=units, beta=beta
    )
    expected = reference.half_step(
        reference.quantize(*parameters),
        grey.numpy(),
        reference.HIDDEN,
        **KEY,
        chain=np.arange(20),
        step=4,
        beta=beta,
        units=(False, hidden_units == "spin"),
        levels=255,
    )
    np.testing.assert_array_equal(found.numpy(), expected)


def test_grey_white_is_on(isa):
    weights = _ops.quantize(*layer(30, 20))
    on = states(10, 30)
    as_grey = _ops.sample_hidden(weights, on * 255, **KEY, levels=255)
    assert torch.equal(as_grey, _ops.sample_hidden(weights, on, **KEY))


def assert_same_layer(a, b):
    assert a.shift == b.shift
    assert torch.equal(a.by_visible, b.by_visible)
    assert torch.equal(a.by_hidden, b.by_hidden)
    assert all(map(torch.equal, a.biases + a.sums, b.biases + b.sums))


@pytest.mark.parametrize("scale", [1e-6, 0.01, 0.3, 5.0, 1e4, 1e17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(5, 3), (300, 70)])
def test_quantize(isa, scale, dtype, size):
    parameters = [x.to(dtype) * 1.000000000001 for x in layer(*size, scale=scale)]
    w, b, c, shift = reference.quantize(*parameters)
    found = _ops.quantize(*parameters)
    assert found.shift == shift
    visible, hidden = size
    np.testing.assert_array_equal(found.by_visible[:, :hidden].numpy(), w)
    np.testing.assert_array_equal(found.by_hidden[:, :visible].numpy(), w.T)
    for found_bias, bias in zip(found.biases, (b, c), strict=True):
        np.testing.assert_array_equal(found_bias[: len(bias)].numpy(), bias)
    for found_sum, axis in zip(found.sums, (1, 0), strict=True):
        np.testing.assert_array_equal(found_sum[: w.shape[1 - axis]].numpy(), w.sum(axis=axis))
    used = _ops.quantize(*(1e-3 * x + 1 for x in parameters))
    assert_same_layer(_ops.quantize(*parameters, out=used), found)
    for padding in (found.by_visible[:, hidden:], found.by_hidden[:, visible:]):
        assert not padding.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_quantize_narrow_types(isa, dtype):
    parameters = [x.to(dtype) for x in layer(7, 5)]
    wide = _ops.quantize(*(x.float() for x in parameters))
    assert_same_layer(_ops.quantize(*parameters), wide)


def test_quantize_any_layout(isa):
    weight, visible_bias, hidden_bias = layer(20, 30)
    strided = torch.zeros(30, 40).T[::2]
    strided.copy_(weight)
    want = _ops.quantize(weight, visible_bias, hidden_bias)
    found = _ops.quantize(strided.requires_grad_(), visible_bias.double(), hidden_bias)
    assert_same_layer(found, want)
    transposed = weight.T.contiguous().T
    assert_same_layer(_ops.quantize(transposed, visible_bias, hidden_bias), want)
    used = _ops.quantize(weight + 1, visible_bias, hidden_bias)
    assert_same_layer(_ops.quantize(transposed, visible_bias, hidden_bias, out=used), want)
