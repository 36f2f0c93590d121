# SPDX-License-Identifier: Apache-2.0
"""Annealed importance sampling: log-weights against NumPy, estimates against enumeration."""

import itertools

import gibbs_reference as reference
import numpy as np
import pytest
import torch

from torch_init import _ops

UNITS = [(a, b) for a in ("bernoulli", "spin") for b in ("bernoulli", "spin")]


def layer(visible, hidden, scale=0.8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = ((visible, hidden), (visible,), (hidden,))
    return [scale * torch.randn(size, generator=generator) for size in sizes]


def values(state, spin):
    return 2.0 * state - 1.0 if spin else state.astype(np.float64)


def log_p(exact, base, visible, beta, spins):
    """log of the unnormalised p(v; beta), the hidden units summed out: float64 [chains]."""
    w, b, c, shift = exact
    weight, bias, hidden_bias = (x * 2.0**-shift for x in (w, b, c))
    v = values(visible, spins[0])
    x = beta * (hidden_bias + v @ weight)
    over_hidden = np.logaddexp(x, -x) if spins[1] else np.logaddexp(0.0, x)
    return v @ ((1 - beta) * base + beta * bias) + over_hidden.sum(axis=1)


def log_z(exact, base, beta, spins):
    visible = np.array(list(itertools.product([0, 1], repeat=exact[0].shape[0])))
    return np.logaddexp.reduce(log_p(exact, base, visible, beta, spins))


def expected_run(parameters, base_bias, betas, chains, units):
    exact = reference.quantize(*parameters)
    spins = tuple(unit == "spin" for unit in units)
    base = np.rint(base_bias.double().numpy() * 2.0 ** exact[3]).astype(np.int64)
    how = {"seed": 5, "name": "ais", "chain": 3 + np.arange(chains), "units": spins}
    hidden = np.zeros((chains, exact[0].shape[1]), np.uint8)
    visible, log_weights = None, np.zeros(chains)
    for k, beta in enumerate(betas):
        if k > 0:
            low, high = (
                log_p(exact, base * 2.0 ** -exact[3], visible, b, spins)
                for b in (betas[k - 1], beta)
            )
            log_weights += high - low
            hidden = reference.half_step(exact, visible, reference.HIDDEN, step=k, beta=beta, **how)
        if k + 1 < len(betas):
            visible = reference.half_step(
                exact, hidden, reference.VISIBLE, step=k, beta=beta, base=base, **how
            )
    return log_weights, visible


@pytest.mark.parametrize("units", UNITS, ids="-".join)
@pytest.mark.parametrize(("visible", "hidden", "chains"), [(6, 5, 3), (20, 530, 21)])
def test_every_step(isa, units, visible, hidden, chains):
    parameters = layer(visible, hidden, scale=0.3)
    base = torch.linspace(-1, 1, visible)
    betas = np.round(np.linspace(0, 1, 9) * 2**24) / 2**24
    how = {"seed": 5, "name": "ais", "first_chain": 3, "chains": chains, "units": units}
    weights = _ops.quantize(*parameters)
    found, found_visible = _ops.ais_run(weights, torch.from_numpy(betas), base, **how)
    expected, expected_visible = expected_run(parameters, base, betas, chains, units)
    np.testing.assert_array_equal(found_visible.numpy(), expected_visible)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11, atol=1e-10)


def test_tiers_and_splits_agree_bit_for_bit():
    weights = _ops.quantize(*layer(30, 700))
    how = {"seed": 1, "betas": torch.linspace(0, 1, 20), "base_bias": torch.zeros(30)}
    before = _ops.cpu_isa()
    runs = []
    for isa in _ops.cpu_isas():
        _ops.set_cpu_isa(isa)
        runs.append(_ops.ais_run(weights, chains=40, **how)[0])
        parts = [
            _ops.ais_run(weights, chains=n, first_chain=first, **how)[0]
            for first, n in ((0, 7), (7, 33))
        ]
        runs.append(torch.cat(parts))
    _ops.set_cpu_isa(before)
    for run in runs[1:]:
        assert torch.equal(run, runs[0])


@pytest.mark.parametrize("units", UNITS, ids="-".join)
def test_weights_are_unbiased(units):
    """The mean of exp(log-weight) is Z / Z of the base; |z| < 4 of 20,000 chains."""
    parameters = layer(7, 6)
    exact = reference.quantize(*parameters)
    spins = tuple(unit == "spin" for unit in units)
    base = 0.5 * parameters[1]
    exact_base = np.rint(base.double().numpy() * 2.0 ** exact[3]) * 2.0 ** -exact[3]
    truth = log_z(exact, exact_base, 1.0, spins) - log_z(exact, exact_base, 0.0, spins)
    log_weights, _ = _ops.ais_run(
        _ops.quantize(*parameters),
        torch.linspace(0, 1, 30),
        base,
        seed=1,
        chains=20_000,
        units=units,
    )
    ratio = np.exp(log_weights.numpy() - truth)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / len(ratio) ** 0.5
    assert ratio.std() < 1  # so that the test can fail


def test_reverse_goes_back(isa):
    """From samples of the model down to the base: the mean of exp(log-weight) is its inverse."""
    parameters = layer(6, 5)
    exact = reference.quantize(*parameters)
    visible = np.array(list(itertools.product([0, 1], repeat=6)), np.uint8)
    zero = np.zeros(6)
    p = np.exp(log_p(exact, zero, visible, 1.0, (0, 0)) - log_z(exact, zero, 1.0, (0, 0)))
    start = visible[np.random.default_rng(0).choice(len(p), 20_000, p=p)]
    log_weights, _ = _ops.ais_run(
        _ops.quantize(*parameters),
        torch.linspace(1, 0, 30),
        torch.zeros(6),
        seed=2,
        visible=torch.from_numpy(start),
    )
    truth = log_z(exact, zero, 0.0, (0, 0)) - log_z(exact, zero, 1.0, (0, 0))
    ratio = np.exp(log_weights.numpy() - truth)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / len(ratio) ** 0.5


def test_without_weights_nothing_is_left_to_chance():
    """With W = 0 and the layer's own biases as the base, all log-weights are the same."""
    weight, visible_bias, hidden_bias = layer(9, 4)
    weights = _ops.quantize(0 * weight, visible_bias, hidden_bias)
    log_weights, _ = _ops.ais_run(weights, torch.linspace(0, 1, 7), visible_bias, seed=0, chains=50)
    expected = torch.nn.functional.softplus(hidden_bias.double()).sum() - 4 * np.log(2)
    assert torch.allclose(log_weights, expected, atol=1e-6)
    assert (log_weights == log_weights[0]).all()


@pytest.mark.parametrize(
    "visible",
    [
        torch.zeros(4, 2, dtype=torch.uint8),
        torch.zeros(3, dtype=torch.uint8),
        torch.zeros(4, 3),
        torch.zeros(4, 3, dtype=torch.uint8, device="meta"),
    ],
)
def test_refuses_states_that_are_not_the_layers(visible):
    weights = _ops.quantize(*layer(3, 2))
    with pytest.raises(ValueError, match="ais_run: visible"):
        _ops.ais_run(weights, torch.linspace(1, 0, 3), torch.zeros(3), seed=0, visible=visible)


@pytest.mark.parametrize("base", [torch.zeros(1), torch.zeros(4), torch.tensor([0, np.nan, 0])])
def test_refuses_a_base_that_is_not_the_layers(base):
    weights = _ops.quantize(*layer(3, 2))
    with pytest.raises(ValueError, match="ais_run: base_bias"):
        _ops.ais_run(weights, torch.linspace(0, 1, 3), base, seed=0, chains=4)
