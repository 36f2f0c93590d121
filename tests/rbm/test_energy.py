# SPDX-License-Identifier: Apache-2.0
"""Energies, free energies and conditionals against enumeration and quadrature, in float64."""

import math

import mpmath
import numpy as np
import pytest
import torch
from machines import CONTINUOUS, DISCRETE, all_pairs, machine, visible_law

from torch_init import rbm

discrete = pytest.mark.parametrize("units", DISCRETE.values(), ids=DISCRETE)


@discrete
def test_free_energy_sums_the_hidden_states_out(units):
    made = machine(units)
    v, h = all_pairs(made)
    summed = -torch.logsumexp(-made.energy(v, h).view(len(made.visible.states()), -1), 1)
    torch.testing.assert_close(made.free_energy(made.visible.states()), summed, rtol=1e-12, atol=0)


@discrete
def test_hidden_free_energy_sums_the_visible_states_out(units):
    made = machine(units)
    v, h = all_pairs(made)
    energies = made.energy(v, h).view(len(made.visible.states()), -1)
    summed = -torch.logsumexp(-energies, 0)
    got = made.hidden_free_energy(made.hidden.states())
    torch.testing.assert_close(got, summed, rtol=1e-12, atol=1e-14)


@discrete
def test_conditional_means(units):
    made = machine(units)
    v, h = all_pairs(made)
    energies = made.energy(v, h).view(len(made.visible.states()), -1)
    means = torch.softmax(-energies, 1) @ made.hidden.states()
    got = made.hidden_mean(made.visible.states())
    torch.testing.assert_close(got, means, rtol=1e-12, atol=1e-14)
    means = torch.softmax(-energies, 0).T @ made.visible.states()
    got = made.visible_mean(made.hidden.states())
    torch.testing.assert_close(got, means, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["gaussian", "gaussian-learned", "gaussian-spin"])
def test_gaussian_conditional_by_quadrature(name):
    """exp(F_h - E) integrates to 1 over each visible unit, with mean and variance as stated."""
    made = machine(CONTINUOUS[name])
    h = made.hidden.states()[[5]]
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    step = grid[1] - grid[0]
    mean = made.visible_mean(h)[0]
    for unit in range(made.visible.size):
        v = mean.repeat(len(grid), 1)
        v[:, unit] = grid
        others = made.visible.size - 1
        log_law = made.hidden_free_energy(h) - made.energy(v, h.expand(len(grid), -1))
        # The other units sit at their means, where each has the density 1 / sqrt(2 pi variance).
        variances = made.log_variance.exp()
        rest = torch.cat([variances[:unit], variances[unit + 1 :]])
        log_law = log_law + 0.5 * (others * math.log(2 * math.pi) + rest.log().sum())
        law = torch.exp(log_law) * step
        assert math.isclose(law.sum().item(), 1, rel_tol=1e-6)
        assert math.isclose((law * grid).sum().item(), mean[unit].item(), abs_tol=1e-9)
        spread = (law * (grid - mean[unit]) ** 2).sum().item()
        assert math.isclose(spread, variances[unit].item(), rel_tol=1e-6)


def test_gaussian_hidden_partition_by_quadrature():
    made = machine((rbm.Bernoulli(3), rbm.Gaussian(1)))
    grid = torch.linspace(-15, 15, 4001, dtype=torch.float64)
    for v in made.visible.states():
        energies = made.energy(v.expand(len(grid), -1), grid.unsqueeze(1))
        total = torch.logsumexp(-energies, 0) + torch.log(grid[1] - grid[0])
        assert math.isclose(total.item(), -made.free_energy(v[None]).item(), rel_tol=1e-9)


def test_nrelu_partition_is_the_integral_of_softplus():
    field = torch.tensor([-500.0, -30, -2, -1e-3, 0, 1e-3, 0.7, 5, 40, 500], dtype=torch.float64)
    units = rbm.NReLU(1)
    got = units.log_partition(field.unsqueeze(1), field, None)
    want = [float(-mpmath.polylog(2, -mpmath.exp(x)).real) for x in field.tolist()]
    np.testing.assert_allclose(got, want, rtol=1e-12)
    x = field.clone().requires_grad_()
    units.log_partition(x.unsqueeze(1), x, None).sum().backward()
    torch.testing.assert_close(x.grad, units.mean(field), rtol=1e-12, atol=0)


def test_nrelu_sampler_is_the_published_one():
    """Mean and variance of max(0, x + sqrt(sigmoid(x)) n) by quadrature: 4 sigma, 10 %."""
    made = rbm.RBM(1, rbm.NReLU(5), dtype=torch.float64)
    fields = torch.tensor([-0.8, -0.4, 0, 1, 4], dtype=torch.float64)
    with torch.no_grad():
        made.weight.zero_()
        made.hidden_bias.copy_(fields)
    _, h = made.gibbs(torch.zeros(40_000, 1), seed=3)
    grid = torch.linspace(-9, 9, 8001, dtype=torch.float64).unsqueeze(1)
    density = torch.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi) * (grid[1] - grid[0])
    states = torch.relu(fields + grid * fields.sigmoid().sqrt())
    mean = (states * density).sum(0)
    variance = (states**2 * density).sum(0) - mean**2
    assert ((h.mean(0) - mean).abs() < 4 * (variance / len(h)).sqrt()).all()
    assert ((h.var(0) / variance - 1).abs() < 0.1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hidden", [rbm.Bernoulli(2), rbm.Spin(2), rbm.NReLU(2)])
def test_free_energy_of_large_fields(hidden, dtype):
    made = rbm.RBM(1, hidden, std=0.0, dtype=dtype)
    with torch.no_grad():
        made.hidden_bias.copy_(torch.tensor([500.0, -500.0]))
    free = made.free_energy(torch.zeros(1, 1, dtype=dtype))
    want = {"Bernoulli": 500.0, "Spin": 1000.0, "NReLU": 125000 + math.pi**2 / 6}
    assert math.isclose(-float(free.detach()), want[type(hidden).__name__], rel_tol=1e-6)
    free.sum().backward()
    assert made.hidden_bias.grad.isfinite().all()


def test_log_partition_without_weights_is_a_sum_of_softplus():
    made = machine((rbm.Bernoulli(6), rbm.Bernoulli(5)))
    with torch.no_grad():
        made.weight.zero_()
        made.hidden_bias.zero_()
    total = torch.logsumexp(-made.free_energy(made.visible.states()), 0)
    want = torch.nn.functional.softplus(made.visible_bias).sum() + 5 * math.log(2)
    torch.testing.assert_close(total, want, rtol=1e-13, atol=0)


def test_law_sums_to_one_and_states_are_all_different():
    for units in DISCRETE.values():
        made = machine(units)
        assert len(made.visible.states().unique(dim=0)) == made.visible.num_states
        assert math.isclose(float(visible_law(made).sum()), 1, rel_tol=1e-12)


def test_what_no_machine_takes_is_told_how_to_fit():
    machine = rbm.RBM(4, 3, seed=0)
    with pytest.raises(TypeError, match=r"hidden_mean: .*torch\.uint8.*divide grey levels"):
        machine(torch.ones(2, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"expected shape \(N, 4\), got shape \(2, 2, 2\)"):
        machine(torch.ones(2, 2, 2))
    with pytest.raises(TypeError, match=r"torch\.from_numpy"):
        machine(torch.ones(2, 4).numpy())
    with pytest.raises(TypeError, match=r"ais: data: expected a tensor of shape \(N, 4\), got int"):
        rbm.ais(machine, 1000)
    with pytest.raises(ValueError, match="hidden: expected 2, as visible has, got 3 rows"):
        machine.energy(torch.ones(2, 4), torch.ones(3, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):  # which converts by itself
        assert machine(torch.ones(2, 4, dtype=torch.bfloat16)).shape == (2, 3)


@pytest.mark.parametrize(
    "use",
    [
        lambda made, rows: made.fit(rows),
        lambda made, rows: made.gibbs(rows),
        lambda made, rows: made.sample(2),
        lambda made, rows: rbm.log_partition(made),
        lambda made, rows: rbm.ais(made, rows, betas=4),
        lambda made, rows: rbm.pseudo_likelihood(made, rows),
    ],
    ids=["fit", "gibbs", "sample", "log_partition", "ais", "pseudo_likelihood"],
)
def test_parameters_without_memory_are_refused(use):
    with pytest.raises(ValueError, match="memory"):
        use(rbm.RBM(4, 3, device="meta"), torch.ones(2, 4))
