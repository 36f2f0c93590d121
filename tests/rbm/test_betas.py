# SPDX-License-Identifier: Apache-2.0
"""Inverse temperatures of gibbs(): of all chains, of each chain, of each unit."""

import pytest
import torch
from machines import machine

from torch_init import rbm

CHAINS = 20_000
BERNOULLI = rbm.Bernoulli(5), rbm.Bernoulli(4)
MACHINES = {
    "exact": (BERNOULLI, {"exact": True}),
    "float": (BERNOULLI, {"exact": False}),
    "spin": ((rbm.Spin(5), rbm.Spin(4)), {}),
    "gaussian": ((rbm.Gaussian(5, variance=0.5), rbm.Bernoulli(4)), {}),
}


def z_of(states, means, variance):
    """By how many standard errors the states' mean is off, of each unit."""
    return (states - means).mean(0) / (variance.mean(0) / len(states)).sqrt()


@pytest.mark.parametrize(("units", "options"), MACHINES.values(), ids=MACHINES)
def test_units_are_drawn_at_their_own_temperatures(units, options):
    """|z| < 4.5 in each of nine units: one in 15,000 runs would not be; at beta 1 it is above 8."""
    made = machine(units, seed=3, **options)
    start = made.sample(1, steps=20, seed=0).expand(CHAINS, -1).contiguous()
    of_visible, of_hidden = torch.linspace(0.2, 2, 5), torch.linspace(3, 0.3, 4)
    v, h = made.gibbs(start, seed=1, beta=0.8, unit_beta=(of_visible, of_hidden))
    with torch.no_grad():
        up, down = made.hidden_field(start), made.visible_field(h)
        hidden = made.hidden.mean(0.8 * of_hidden * up)
        low = made.hidden.states().min()
        assert z_of(h, hidden, (1 - hidden) * (hidden - low)).abs().max() < 4.5
        assert z_of(h, made.hidden.mean(up), (1 - hidden) * (hidden - low)).abs().max() > 8
        if isinstance(units[0], rbm.Gaussian):
            assert z_of(v, down, (0.5 / (0.8 * of_visible)).expand_as(v)).abs().max() < 4.5
            spread = (v - down).var(0) * 0.8 * of_visible / 0.5
            assert (spread - 1).abs().max() < 0.05  # five standard errors of a variance
            return
        visible = made.visible.mean(0.8 * of_visible * down)
        low = made.visible.states().min()
        assert z_of(v, visible, (1 - visible) * (visible - low)).abs().max() < 4.5


@pytest.mark.parametrize("exact", [True, False])
def test_factors_of_one_half_are_a_beta_of_one_half(exact):
    made = machine(BERNOULLI, exact=exact)
    start = made.sample(50, steps=1, seed=0)
    want = made.gibbs(start, 3, seed=1, beta=0.5)
    got = made.gibbs(start, 3, seed=1, unit_beta=(torch.full((5,), 0.5), torch.full((4,), 0.5)))
    assert all(map(torch.equal, want, got))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"beta": -1.0}, "beta: expected finite numbers >= 0"),
        ({"beta": float("nan")}, "beta: expected finite"),
        ({"beta": torch.ones(3)}, r"beta: expected a number or shape \(2,\)"),
        ({"unit_beta": (torch.ones(4), None)}, r"unit_beta of visible units: .* \(5,\)"),
        ({"unit_beta": (None, -torch.ones(4))}, "unit_beta of hidden units: expected finite"),
    ],
)
def test_bad_temperatures_are_refused(exact, how, text):
    with pytest.raises(ValueError, match=text):
        machine(BERNOULLI, exact=exact).gibbs(torch.zeros(2, 5), seed=0, **how)


def test_means_have_no_exact_states_at_temperatures_of_their_own():
    means, factors = torch.full((2, 5), 0.5), (None, torch.ones(4))
    with pytest.raises(ValueError, match="Start from states"):
        machine(BERNOULLI).gibbs(means, seed=0, unit_beta=factors)
    machine(BERNOULLI, exact=False).gibbs(means, seed=0, unit_beta=factors)
