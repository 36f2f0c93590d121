# SPDX-License-Identifier: Apache-2.0
"""Chains: their law does not drift, and their bits depend on nothing but their key."""

import itertools

import pytest
import torch
from machines import DISCRETE, machine, row_numbers, visible_law
from scipy import stats

from torch_init import rbm
from torch_init.rbm.sampling import Noise

CHAINS = 20_000


def drawn_exactly(made, law, seed, chains=CHAINS):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.multinomial(law, chains, replacement=True, generator=generator)
    return made.visible.states()[rows].to(made.weight.dtype)


def check_law(made, visible, law):
    """Total variation below 4 times its Monte Carlo floor, and a chi-square test."""
    states = made.visible.states()
    counts = torch.bincount(row_numbers(states, visible), minlength=len(states)).double()
    distance = 0.5 * (counts / len(visible) - law).abs().sum()
    floor = 0.5 * (law * (1 - law) / len(visible)).sqrt().sum()
    assert distance < 4 * floor
    assert stats.chisquare(counts, law * len(visible)).pvalue > 1e-3


CASES = [
    pytest.param(name, exact, dtype, id=f"{name}-{'exact' if exact else 'float'}-{dtype}"[:40])
    for name, units in DISCRETE.items()
    for exact in ([True, False] if units[0].binary and units[1].binary else [False])
    for dtype in (torch.float32, torch.float64)
]


@pytest.mark.parametrize(("name", "exact", "dtype"), CASES)
@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_exact_law_stays(name, exact, dtype, beta):
    made = machine(DISCRETE[name], seed=4, dtype=dtype, exact=exact)
    law = visible_law(made, beta)
    visible = drawn_exactly(made, law, seed=5)
    done = 0
    for until in (1, 4, 16):
        visible, _ = made.gibbs(visible, until - done, seed=6, first_step=done, beta=beta)
        done = until
        check_law(made, visible, law)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_law(dtype):
    """The integer path rounds the parameters, as stored, by at most 2^-24."""
    made = machine(DISCRETE["bernoulli"], seed=4, dtype=dtype)
    wide = machine(DISCRETE["bernoulli"], seed=4)
    wide.load_state_dict({k: v.double() for k, v in made.state_dict().items()})
    law = visible_law(wide)
    visible, _ = made.gibbs(drawn_exactly(made, law, seed=1), 4, seed=2)
    check_law(wide, visible, law)


@pytest.mark.parametrize("variance", [0.5, 2.0])
def test_gaussian_law_stays(variance):
    """h is drawn from its exact law, then v: the law of h is the same k sweeps later."""
    made = machine((rbm.Gaussian(3, variance=variance), rbm.Bernoulli(4)), seed=8)
    states = made.hidden.states()
    law = torch.softmax(-made.hidden_free_energy(states).detach(), 0)
    rows = torch.multinomial(law, CHAINS, True, generator=torch.Generator().manual_seed(1))
    visible = made.sample_visible(states[rows], Noise(9, "start"))
    _, hidden = made.gibbs(visible, 1, seed=3)
    check_hidden(made, hidden, law)
    _, hidden = made.gibbs(visible, 8, seed=4)
    check_hidden(made, hidden, law)


def check_hidden(made, hidden, law):
    counts = torch.bincount(row_numbers(made.hidden.states(), hidden), minlength=len(law))
    assert stats.chisquare(counts.double(), law * len(hidden)).pvalue > 1e-3


def test_a_wrong_sampler_is_noticed():
    """The checks above can fail: 5 % more weight is enough."""
    made = machine(DISCRETE["bernoulli"], seed=4)
    law = visible_law(made)
    visible = drawn_exactly(made, law, seed=5)
    with torch.no_grad():
        made.weight.mul_(1.3)
    visible, _ = made.gibbs(visible, 16, seed=6)
    with pytest.raises(AssertionError):
        check_law(made, visible, law)


def test_detailed_balance_of_the_transition_matrix():
    made = machine((rbm.Bernoulli(4), rbm.Bernoulli(3)))
    v, h = made.visible.states(), made.hidden.states()
    up = (made.hidden_mean(v)[:, None] * (2 * h - 1) + (1 - h)).prod(-1)
    down = (made.visible_mean(h)[:, None] * (2 * v - 1) + (1 - v)).prod(-1)
    flow = visible_law(made)[:, None] * (up @ down)
    torch.testing.assert_close(flow, flow.T, rtol=1e-10, atol=1e-15)


UNITS = DISCRETE | {
    "gaussian-nrelu": (rbm.Gaussian(5), rbm.NReLU(4)),
    "gaussian-spin": (rbm.Gaussian(5), rbm.Spin(4)),
}


@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
def test_chains_may_be_split_and_continued(units):
    made = machine(units, dtype=torch.float32)
    start = made.sample(9, steps=1, seed=0)
    whole, hidden = made.gibbs(start, 5, seed=1, first_chain=7)
    parts = [
        made.gibbs(start[a:b], 5, seed=1, first_chain=7 + a)
        for a, b in itertools.pairwise([0, 1, 4, 9])
    ]
    rtol = 0 if made.exact else 1e-5  # a float product depends on the number of its rows
    torch.testing.assert_close(torch.cat([v for v, _ in parts]), whole, rtol=rtol, atol=rtol)
    torch.testing.assert_close(torch.cat([h for _, h in parts]), hidden, rtol=rtol, atol=rtol)
    middle, _ = made.gibbs(start, 2, seed=1, first_chain=7)
    end, _ = made.gibbs(middle, 3, seed=1, first_chain=7, first_step=2)
    torch.testing.assert_close(end, whole, rtol=0, atol=0)


def test_means_are_not_taken_for_states():
    """A spin's 0 is a mean, and adds nothing to a field; taken for a state it would be a -1."""
    made = machine((rbm.Spin(3), rbm.Spin(2)), scale=0.0)
    with torch.no_grad():
        made.weight.fill_(40.0)
    _, hidden = made.gibbs(torch.zeros(4000, 3), seed=1)
    assert hidden.mean().abs() < 4 / 4000**0.5


def test_parameters_that_are_not_finite_are_refused():
    made = machine(DISCRETE["bernoulli"])
    with torch.no_grad():
        made.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"gibbs: self\.weight: expected finite numbers"):
        made.gibbs(torch.zeros(2, 5))


def test_certain_units_are_certain():
    made = rbm.RBM(2, 2, std=0.0)
    with torch.no_grad():
        made.visible_bias.copy_(torch.tensor([40.0, -40.0]))
    assert made.sample(50_000, steps=1, seed=0).mean(0).tolist() == [1.0, 0.0]


def test_two_calls_differ_and_a_seed_repeats():
    made = machine(DISCRETE["bernoulli"])
    start = torch.zeros(100, 5)
    assert not torch.equal(made.gibbs(start)[0], made.gibbs(start)[0])
    assert torch.equal(made.gibbs(start, seed=1)[0], made.gibbs(start, seed=1)[0])
    torch.manual_seed(3)
    first = made.gibbs(start)[0]
    torch.manual_seed(3)
    assert torch.equal(first, made.gibbs(start)[0])


@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
def test_no_chains(units):
    made = machine(units, dtype=torch.float32)
    visible, hidden = made.gibbs(torch.zeros(0, made.visible.size), 2)
    assert visible.shape == (0, made.visible.size) and hidden.shape == (0, made.hidden.size)


@pytest.mark.parametrize(
    ("visible", "text"),
    [
        (torch.zeros(3), "shape"),
        (torch.zeros(3, 4), r"shape \(N, 5\)"),
        (torch.full((3, 5), torch.nan), "not finite"),
        (torch.full((3, 5), 1.5), r"values in \[1.5, 1.5\]"),
        (torch.full((3, 5), -0.1), "states of Bernoulli units"),
    ],
)
def test_bad_states_are_refused(visible, text):
    with pytest.raises(ValueError, match=text):
        machine(DISCRETE["bernoulli"]).gibbs(visible)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: rbm.Gaussian(3, variance=-1.0), "variance"),
        (lambda: rbm.Softmax(5, categories=3), "multiple"),
        (lambda: rbm.RBM(0, 3), "visible"),
        (lambda: rbm.RBM(3, rbm.NReLU(2), exact=True), "exact"),
        (lambda: rbm.RBM(rbm.Gaussian(3), rbm.Gaussian(2)), "Gaussian on Gaussian"),
        (lambda: rbm.RBM(rbm.NReLU(3), 2), "NReLU"),
    ],
)
def test_impossible_machines_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
