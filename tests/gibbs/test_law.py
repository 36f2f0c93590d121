# SPDX-License-Identifier: Apache-2.0
"""The law of the chains: the float formulas, by enumeration and by counting."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from torch_init import _ops

UNITS = [(a, b) for a in ("bernoulli", "spin") for b in ("bernoulli", "spin")]
CHAINS = 20_000


def layer(visible, hidden, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = ((visible, hidden), (visible,), (hidden,))
    return [0.6 * torch.randn(size, generator=generator) for size in sizes]


def every_state(units):
    return np.array(list(itertools.product([0, 1], repeat=units)), np.uint8)


def meaning(states, unit):
    """The states as float64 numbers: 0 and 1, or -1 and 1."""
    return 2.0 * states - 1.0 if unit == "spin" else states.astype(np.float64)


def log_joint(parameters, beta, units):
    """log of the unnormalised p(v, h)^beta: [2^visible, 2^hidden]."""
    w, b, c = (x.double().numpy() for x in parameters)
    v, h = (meaning(every_state(n), unit) for n, unit in zip(w.shape, units, strict=True))
    return beta * ((v @ b)[:, None] + h @ c + v @ w @ h.T)


def normalised(log_p):
    p = np.exp(log_p - log_p.max())
    return p / p.sum()


def numbers(states):
    """Which of every_state each row is."""
    return states.numpy().astype(np.int64) @ (1 << np.arange(states.shape[1])[::-1])


@pytest.mark.parametrize("beta", [1.0, 0.4])
@pytest.mark.parametrize("units", UNITS, ids="-".join)
def test_chains_do_not_drift(isa, units, beta):
    """Chains begun at the exact distribution stay there: total variation within 4 times what the
    number of chains accounts for, chi-square not in its tail."""
    parameters = layer(5, 4)
    p = normalised(np.logaddexp.reduce(log_joint(parameters, beta, units), axis=1))
    noise = 0.5 * np.sqrt(p * (1 - p) / CHAINS).sum()
    weights = _ops.quantize(*parameters)
    start = every_state(5)[np.random.default_rng(0).choice(32, CHAINS, p=p)]
    for sweeps in (1, 4, 16):
        visible, _ = _ops.gibbs(
            weights,
            torch.from_numpy(start.copy()),
            None,
            seed=sweeps,
            sweeps=sweeps,
            beta=beta,
            units=units,
        )
        counts = np.bincount(numbers(visible), minlength=32)
        assert 0.5 * np.abs(counts / CHAINS - p).sum() < 4 * noise
        assert stats.chisquare(counts, p * CHAINS).pvalue > 1e-3


def test_drift_would_be_seen():
    """Negative control: another model's chains leave the first model's distribution."""
    parameters = layer(5, 4)
    p = normalised(np.logaddexp.reduce(log_joint(parameters, 1.0, UNITS[0]), axis=1))
    start = every_state(5)[np.random.default_rng(0).choice(32, CHAINS, p=p)]
    changed = _ops.quantize(1.15 * parameters[0], *parameters[1:])
    visible, _ = _ops.gibbs(changed, torch.from_numpy(start), None, seed=1, sweeps=16)
    counts = np.bincount(numbers(visible), minlength=32)
    assert stats.chisquare(counts, p * CHAINS).pvalue < 1e-3


def test_hidden_chain_does_not_drift(isa):
    parameters = layer(5, 4)
    p = normalised(np.logaddexp.reduce(log_joint(parameters, 1.0, UNITS[0]), axis=0))
    start = every_state(4)[np.random.default_rng(0).choice(16, CHAINS, p=p)]
    weights = _ops.quantize(*parameters)
    _, hidden = _ops.gibbs(weights, None, torch.from_numpy(start), seed=3, sweeps=4, start="hidden")
    counts = np.bincount(numbers(hidden), minlength=16)
    assert stats.chisquare(counts, p * CHAINS).pvalue > 1e-3


@pytest.mark.parametrize("units", UNITS, ids="-".join)
def test_detailed_balance(units):
    """p(v) T(v -> v') is symmetric: transitions counted from every visible state alike."""
    parameters = layer(4, 3, seed=2)
    p = normalised(np.logaddexp.reduce(log_joint(parameters, 1.0, units), axis=1))
    each = 20_000
    start = torch.from_numpy(every_state(4)).repeat_interleave(each, dim=0)
    weights = _ops.quantize(*parameters)
    end, _ = _ops.gibbs(weights, start.clone(), None, seed=1, units=units)
    counts = np.zeros((16, 16))
    np.add.at(counts, (numbers(start), numbers(end)), 1)
    transition = counts / each
    flow = p[:, None] * transition
    noise = p[:, None] * np.sqrt(np.maximum(transition, 1 / each) / each)
    z = (flow - flow.T) / np.hypot(noise, noise.T)
    assert np.abs(z[np.triu_indices(16, 1)]).max() < 4.5  # of 120


@pytest.mark.parametrize("units", UNITS, ids="-".join)
def test_agrees_with_the_float_path(isa, units):
    """Each hidden unit's ones against the float formula's probability: |z| < 4.5 of 70."""
    generator = torch.Generator().manual_seed(3)
    parameters = [0.3 * torch.randn(s, generator=generator) for s in ((40, 70), (40,), (70,))]
    visible = torch.randint(2, (1, 40), generator=generator, dtype=torch.uint8)
    hidden = _ops.sample_hidden(
        _ops.quantize(*parameters), visible.expand(CHAINS, 40).contiguous(), seed=0, units=units
    )
    v = torch.from_numpy(meaning(visible.numpy(), units[0]))
    field = v @ parameters[0].double() + parameters[2].double()
    p = torch.sigmoid(2 * field if units[1] == "spin" else field)[0].numpy()
    z = (hidden.double().mean(0).numpy() - p) / np.sqrt(p * (1 - p) / CHAINS)
    assert np.abs(z).max() < 4.5
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_grey_levels_follow_the_float_path(isa):
    parameters = [0.2 * x for x in layer(60, 30)]
    grey = torch.randint(
        256, (1, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    hidden = _ops.sample_hidden(
        _ops.quantize(*parameters), grey.expand(CHAINS, 60).contiguous(), seed=4, levels=255
    )
    p = torch.sigmoid(grey.double() / 255 @ parameters[0].double() + parameters[2].double())[0]
    z = (hidden.double().mean(0) - p) / (p * (1 - p) / CHAINS).sqrt()
    assert z.abs().max() < 4.5


@pytest.mark.parametrize("units", UNITS, ids="-".join)
@pytest.mark.parametrize("size", [23.0, 1e3, 1e6, 1e15])
def test_saturated_units_never_leak(isa, units, size):
    """Beyond the table's tail, 22.9, a unit does what its field says, whatever the word."""
    bias = torch.tensor([size, -size] * 8)
    weights = _ops.quantize(torch.zeros(16, 16), bias, bias)
    visible = torch.zeros(5000, 16, dtype=torch.uint8)
    visible, hidden = _ops.gibbs(weights, visible, None, seed=0, sweeps=3, units=units)
    expected = (bias > 0).to(torch.uint8).expand(5000, 16)
    assert torch.equal(visible, expected)
    assert torch.equal(hidden, expected)


def test_largest_sums_do_not_overflow(isa):
    """Weights that all pull one way, with 20,000 sources: the field's sign decides."""
    weight = torch.full((20_000, 3), 3.0)
    weight[:, 1] = -3.0
    weights = _ops.quantize(weight, torch.zeros(20_000), torch.zeros(3))
    on = torch.ones(20, 20_000, dtype=torch.uint8)
    for units in (("bernoulli", "bernoulli"), ("spin", "spin")):
        hidden = _ops.sample_hidden(weights, on, seed=0, units=units)
        assert torch.equal(hidden[:, :2], torch.tensor([[1, 0]], dtype=torch.uint8).expand(20, 2))
    grey = _ops.sample_hidden(weights, on * 255, seed=0, levels=255)
    assert torch.equal(grey[:, :2], torch.tensor([[1, 0]], dtype=torch.uint8).expand(20, 2))
