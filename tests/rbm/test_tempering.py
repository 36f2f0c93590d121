# SPDX-License-Identifier: Apache-2.0
"""Parallel tempering: sweeps and swaps leave the law at every temperature as it is."""

import pytest
import torch
from machines import DISCRETE, machine, row_numbers
from scipy import stats

import torch_init
from torch_init import rbm
from torch_init.rbm.options import Options
from torch_init.rbm.parallel import Processes
from torch_init.rbm.sampling import Noise
from torch_init.rbm.tempering import Tempered, swap_

CHAINS = 20_000


def tempered_law(made, beta):
    """p(v) at an inverse temperature: all of the energy times beta."""
    cooled = machine(DISCRETE["bernoulli"])
    with torch.no_grad():
        for a, b in zip(cooled.parameters(), made.parameters(), strict=True):
            a.copy_(beta * b)
    return torch.softmax(-cooled.free_energy(made.visible.states()).detach(), 0)


def exact_rungs(made, betas):
    states, generator = made.visible.states(), torch.Generator().manual_seed(0)
    return [
        states[torch.multinomial(tempered_law(made, beta), CHAINS, True, generator=generator)]
        for beta in betas.tolist()
    ]


def check(made, rungs, betas):
    for rung, beta in zip(rungs, betas.tolist(), strict=True):
        law = tempered_law(made, beta)
        counts = torch.bincount(row_numbers(made.visible.states(), rung), minlength=len(law))
        assert stats.chisquare(counts.double(), law * CHAINS).pvalue > 1e-4, beta


@pytest.mark.parametrize("parity", [0, 1])
def test_swaps_keep_every_law(parity):
    made, betas = machine(DISCRETE["bernoulli"], scale=1.5), torch.tensor([1.0, 0.6, 0.3, 0.0])
    rungs = exact_rungs(made, betas.double())
    counts = swap_(made, rungs, betas.double(), Noise(1, "swaps"), parity)
    assert len(counts) == 2 - parity and (counts > 0.1 * CHAINS).all() and (counts < CHAINS).all()
    check(made, rungs, betas)


def test_a_rule_that_always_swaps_is_noticed():
    made, betas = machine(DISCRETE["bernoulli"], scale=1.5), torch.tensor([1.0, 0.3])
    with pytest.raises(AssertionError):
        check(made, exact_rungs(made, betas)[::-1], betas)


def test_sweeps_and_swaps_keep_every_law():
    made = machine(DISCRETE["bernoulli"], scale=1.5)
    options = Options(algorithm="pt", k=2, temperatures=4)
    start = torch.zeros(CHAINS, 5, dtype=torch.float64)
    chains = Tempered(made, options, Noise(2, "pt"), start, Processes())
    chains.chains = torch.cat(exact_rungs(made, chains.betas))
    for update in range(6):
        visible, hidden = chains.states(start, 0, update, None, made.integers())
    check(made, list(chains.chains.split(CHAINS)), chains.betas)
    assert torch.equal(visible, chains.chains[:CHAINS]) and hidden.shape == (CHAINS, 4)


def shares_of_swaps(made, betas):
    """How often each pair of neighbours swaps, from exact states."""
    shares = torch.zeros(len(betas) - 1)
    for parity in (0, 1):
        counts = swap_(made, exact_rungs(made, betas), betas, Noise(5, "shares"), parity)
        shares[parity::2] = counts.float() / CHAINS
    return shares


def test_adapted_temperatures_swap_as_often():
    """Evenly spaced, 0.96 to 0.17 of them do; shares of 20,000 chains are within 0.01."""
    made = machine(DISCRETE["bernoulli"], scale=3.0)
    options = Options(algorithm="pt", temperatures=5, adapt_temperatures=True)
    start = torch.zeros(500, 5, dtype=torch.float64)
    chains = Tempered(made, options, Noise(2, "pt"), start, Processes())
    before = shares_of_swaps(made, chains.betas)
    for update in range(1500):
        chains.advance(update, made.integers())
    assert chains.betas[0] == 1 and chains.betas[-1] == 0 and (chains.betas.diff() < 0).all()
    after = shares_of_swaps(made, chains.betas)
    assert before.max() - before.min() > 0.7 and after.max() - after.min() < 0.1


def test_without_parameters_every_swap_is_made():
    made = rbm.RBM(5, 4, std=0.0)
    rungs = [torch.zeros(50, 5), torch.ones(50, 5)]
    assert swap_(made, rungs, torch.tensor([1.0, 0.0]), Noise(0, "swaps"), 0).tolist() == [50]
    assert (rungs[0] == 1).all() and (rungs[1] == 0).all()


@pytest.mark.parametrize("beta", [0.0, torch.tensor([1.0, 0.0])])
def test_gaussian_units_have_no_law_at_beta_zero(beta):
    made = torch_init.rbm.RBM(torch_init.rbm.Gaussian(3), 2, seed=0)
    with pytest.raises(ValueError, match="gibbs: beta: expected numbers > 0"):
        made.gibbs(torch.zeros(2, 3), seed=0, beta=beta)
    before = made.weight.detach().clone()
    with pytest.raises(ValueError, match="'pt' with Gaussian units"):
        torch_init.rbm.fit(made, torch.randn(8, 3), epochs=1, algorithm="pt")
    assert torch.equal(made.weight, before)
